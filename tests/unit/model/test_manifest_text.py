import subprocess
import sys
from pathlib import Path

import pytest

import git_theta_ext
from git_theta_ext.model import manifest
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import Conflict
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.manifest_text import MAGIC, MARK, manifest_text
from git_theta_ext.model.tensor import Digest, TensorSpec


def digest(character):
    return Digest(character * 64)


def of(*names, conflicts=()):
    parameters = {name: Parameter(TensorSpec.of("BF16", (2, 3)), digest("a")) for name in names}
    return Manifest("safetensors", Skeleton(digest("b"), 10), parameters, None, conflicts).to_bytes()


def lines(data):
    return manifest_text(data).decode().split("\n")[:-1]


def test_a_parameter_is_a_line_without_the_digits_that_nobody_compares():
    assert lines(of("layer.weight", "zoë")) == [
        "# git theta textconv: name, type, shape, digest",
        "format safetensors",
        "order and metadata  bbbbbbbbbbbbbbbb",
        "layer.weight  BF16 [2,3]  aaaaaaaaaaaaaaaa",
        "zoë  BF16 [2,3]  aaaaaaaaaaaaaaaa",
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", r'"a\nb"'),
        ("a\x1b[2Jb", r'"a\u001b[2Jb"'),
        ("a\u202eb", r"a\u202eb"),
        ('quo"te', r'"quo\"te"'),
        ("tab\tbed", r'"tab\tbed"'),
    ],
)
def test_a_name_can_neither_forge_a_line_nor_control_a_terminal(name, shown):
    assert lines(of(name))[3:] == [f"{shown}  BF16 [2,3]  aaaaaaaaaaaaaaaa"]


def test_a_conflict_has_its_reason():
    conflict = Conflict("w", Reason.of(ConflictCode.CHANGED, "changed by both"), None, (None, None))
    assert lines(of("v", conflicts=(conflict,)))[-1] == "conflict  w  changed: changed by both"


def test_what_is_no_manifest_of_this_version_is_shown_and_no_error():
    assert lines(MAGIC + b"format\nskeleton\n\x9b\x1b\t2\n") == [
        "# git theta textconv: name, type, shape, digest",
        "format",
        "skeleton",
        "\\x9b\\x1b  2",
    ]
    assert lines(MAGIC)[0].startswith(MARK.decode())


def test_the_beginning_is_that_of_manifests():
    assert manifest.MAGIC == MAGIC


def test_the_text_needs_none_of_the_modules_that_take_long():
    code = (
        f"import sys; sys.path.insert(0, {str(Path(git_theta_ext.__file__).parents[1])!r})\n"
        "import git_theta_ext.cli.plumbing.textconv, git_theta_ext.cli.main\n"
        "print(sorted({*sys.modules} & {'typing', 're', 'json', 'dataclasses', 'subprocess', 'argparse', 'numpy'}))"
    )
    # Python's own start-up for an installation may import some of them.
    assert subprocess.run([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, check=True).stdout == b"[]\n"
