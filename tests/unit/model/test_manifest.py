from pathlib import Path

import pytest
from bounds import memory_of

from git_theta_ext.errors import ManifestError
from git_theta_ext.model.conflict_reasons import Reason
from git_theta_ext.model.conflicts import Conflict, LayoutConflict
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton, is_manifest
from git_theta_ext.model.tensor import TensorSpec

GOLDEN = Path(__file__).parents[2] / "golden" / "manifest-1.txt"
A, B, C = "a" * 64, "b" * 64, "c" * 64


def parameter(digest=A, kind="F32", shape=(2, 3)):
    return Parameter(TensorSpec.of(kind, shape), digest)


PLAIN = Manifest("safetensors", Skeleton(C, 70), {"w": parameter(), "b": parameter(B, "BF16", ())})
CONFLICTED = Manifest(
    "safetensors",
    Skeleton(C, 70),
    {"w": parameter(), "a\tb\n": parameter(B), "ünï \ud800\u2028": parameter(B, "I64", (0,))},
    LayoutConflict(Reason("both sides added parameters"), None, (Skeleton(A, 1), Skeleton(B, 2))),
    (
        Conflict("w", Reason("changed by both"), parameter(B), (parameter(A), None)),
        Conflict("gone", Reason("deleted"), parameter(), (None, parameter(C))),
    ),
)


def test_parameters_are_sorted_by_name_and_lines_stand_alone():
    assert PLAIN.to_bytes().decode() == (
        f'git-theta manifest 1\nformat safetensors\nskeleton {C} 70\n"b"\tBF16\t[]\t{B}\n"w"\tF32\t[2,3]\t{A}\n'
    )


def test_the_text_of_version_1_never_changes():
    assert CONFLICTED.to_bytes() == GOLDEN.read_bytes()


@pytest.mark.parametrize("manifest", [PLAIN, CONFLICTED, Manifest("opaque", Skeleton(A, 1), {})])
def test_parsing_gives_the_manifest_back(manifest):
    data = manifest.to_bytes()
    assert is_manifest(data)
    assert Manifest.parse(data) == manifest
    assert Manifest.parse(data).to_bytes() == data


def test_lines_are_read_alike_whether_all_names_are_plain_or_not():
    plain = {f"layer.{number}": parameter(f"{number:064x}", shape=(number, 2)) for number in range(20)}
    skeleton = Skeleton(A, 8)
    special = {'a "quoted" name': plain["layer.3"], "é": plain["layer.4"]}
    alone = Manifest.parse(Manifest("safetensors", skeleton, plain).to_bytes())
    beside = Manifest.parse(Manifest("safetensors", skeleton, plain | special).to_bytes())
    assert dict(alone.parameters) == plain
    assert dict(beside.parameters) == plain | special


def test_digests_come_with_their_sizes_skeleton_first():
    assert list(PLAIN.digests()) == [(C, 70), (B, 2), (A, 24)]


HEAD = f"git-theta manifest 1\nformat safetensors\nskeleton {C} 70\n"
LINE = f'"w"\tF32\t[2,3]\t{A}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "line 1"),
        ("git-theta manifest 2\n", "line 1"),
        ("git-theta manifest 1\n", "truncated"),
        ("git-theta manifest 1\nformat Safe!\n", "line 2.*format"),
        ("git-theta manifest 1\nformat x\nskeleton abc 3\n", "line 3.*skeleton"),
        (f"git-theta manifest 1\nformat x\nskeleton {C} 99999999999\n", "line 3"),
        (f"git-theta manifest 1\nformat x\nskeleton {C} 0\n", "line 3"),
        (HEAD[:-1], "truncated"),
        (HEAD + LINE + LINE, "line 5.*duplicate"),
        (HEAD + LINE + LINE.replace('"w"', '"a"'), "line 5.*out of order"),
        (HEAD + LINE.replace('"w"', "w"), "line 4.*canonical"),
        (HEAD + LINE.replace('"w"', '"\\u0077"'), "line 4.*canonical"),
        (HEAD + LINE.replace("F32", "F33"), "line 4.*F33"),
        (HEAD + LINE.replace("[2,3]", "[2, 3]"), "line 4.*shape"),
        (HEAD + LINE.replace("[2,3]", "[02,3]"), "line 4.*shape"),
        (HEAD + LINE.replace("[2,3]", "[999999999999999999]"), "line 4.*size"),
        (HEAD + LINE.replace(A, A.upper()), "line 4.*digest"),
        (HEAD + LINE.replace("\n", "\textra\n"), "line 4"),
        (HEAD + "<<<<<<< ours\n" + LINE, "line 4"),
        (HEAD + LINE + "\n", "line 5"),
        (HEAD + LINE + "conflict\n", "conflict section is empty"),
        (HEAD + LINE + 'conflict\n"w"\t"x"\t-\t-\n', "line 6.*two or more sides"),
        (HEAD + LINE.replace("\n", "\r\n"), "line 4"),
    ],
)
def test_whatever_is_not_canonical_is_refused_with_its_line(text, message):
    with pytest.raises(ManifestError, match=message):
        Manifest.parse(text.encode())


def test_bytes_that_are_no_text_are_refused_with_their_line():
    with pytest.raises(ManifestError, match="line 4: not UTF-8"):
        Manifest.parse(HEAD.encode() + b"\xff\n")


def test_a_huge_text_is_refused_unread(monkeypatch):
    monkeypatch.setattr("git_theta_ext.model.manifest.MAX_MANIFEST", 10)
    with pytest.raises(ManifestError, match="exceeds the limit of 10"):
        Manifest.parse(HEAD.encode())


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "ab\n" * 30_000,
        HEAD + "ab\t" * 30_000 + "\n",
        HEAD + "conflict\n" + "ab\t" * 30_000 + "\n",
        HEAD + f'"w"\tF32\t[{"1," * 30_000}1]\t{A}\n',
        HEAD + "".join(f'"{n:05}"\tU8\t[]\t{A}\n' for n in range(2_000)),
    ],
    ids=["lines", "columns", "sides", "dimensions", "parameters"],
)
def test_parsing_takes_memory_in_proportion_to_the_size(text):
    assert memory_of(lambda: Manifest.parse(text.encode())) < 16 * len(text) + (1 << 17)
