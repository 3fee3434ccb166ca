"""Parameters as columns behave as the dictionary of them does."""

from __future__ import annotations

import pytest

from git_theta_ext.errors import ManifestError
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.parameters import Parameters, read_plain
from git_theta_ext.model.tensor import Digest, TensorSpec

SPECS = [TensorSpec.of("F32", (2, 3)), TensorSpec.of("BF16", (4,))]
DIGESTS = [Digest("a" * 64), Digest("b" * 64)]
PLAIN = {name: Parameter(spec, digest) for name, spec, digest in zip("xy", SPECS, DIGESTS, strict=True)}


def test_columns_are_a_mapping() -> None:
    parameters = Parameters(["x", "y"], SPECS, DIGESTS)
    assert len(parameters) == 2
    assert list(parameters) == [*parameters.keys()] == ["x", "y"]
    assert dict(parameters.items()) == PLAIN == parameters
    assert [*parameters.values()] == [*PLAIN.values()]
    assert parameters["x"] == parameters.get("x") == PLAIN["x"]
    assert parameters.get("z") is None
    assert parameters.get("z", 1) == 1
    assert "y" in parameters
    assert "z" not in parameters
    assert repr(parameters) == repr(PLAIN)


def test_equal_columns_are_equal_however_they_were_made() -> None:
    parameters = Parameters(["x", "y"], SPECS, DIGESTS)
    assert Parameters.of(dict(reversed(PLAIN.items()))) == parameters
    assert Parameters.of(parameters) is parameters
    assert Parameters(["x", "z"], SPECS, DIGESTS) != parameters
    assert Parameters(["x", "y"], SPECS[::-1], DIGESTS) != parameters
    assert Parameters(["x", "y"], SPECS, DIGESTS[::-1]) != parameters
    assert Parameters(["x"], SPECS[:1], DIGESTS[:1]) != parameters


def test_a_manifest_lists_the_columns_of_its_parameters() -> None:
    columns = Manifest("safetensors", Skeleton(Digest("c" * 64), 7), dict(reversed(PLAIN.items()))).columns
    assert (columns.names, columns.specs, columns.digests) == (["x", "y"], SPECS, DIGESTS)


ROW = f'"x"\tF32\t[2,3]\t{"a" * 64}'


@pytest.mark.parametrize(
    "lines",
    [
        [f'{ROW}\t"y"\tF32\t[2,3]\t{"a" * 64}'],  # two parameters in a line
        ['"x"\tF32', f"[2,3]\t{'a' * 64}"],  # one in two lines
        [ROW, ROW],
        [ROW.replace('"x"', '"y"'), ROW],
        [ROW.replace('"x"', '"x')],
        [ROW.replace('"x"', '""x"')],
        [ROW.replace('"x"', '"x\\u0061"')],
        [ROW.replace("F32", "F33")],
        [ROW.replace("[2,3]", "[2, 3]")],
        [ROW[:-1]],
        [ROW + "a"],
        [ROW[:-1] + "A"],
        [ROW[:-1] + " "],
        [ROW[:-1], ROW.replace('"x"', '"y"') + "a"],
        [ROW + "\t"],
        ["\t" + ROW],
        [""],
        [ROW, ""],
        [ROW.replace("[2,3]\t", "[2,3]\t\t" + '"y"\tF32\t[2,3]\t'), '"z"' + "a" * 64, "F32\t[2,3]\t" + "b" * 64],
        [ROW.replace("]\t", ""), "]\t" + ROW.replace('"x"', '"y"')],
        [ROW.replace("]\t", "]"), ROW.replace('"x"', '"y"')],
    ],
)
def test_lines_that_are_not_canonical_are_refused(lines: list[str]) -> None:
    assert read_plain([ROW]) is not None  # what was read before does not let others pass
    text = "\n".join(["git-theta manifest 1", "format safetensors", f"skeleton {'c' * 64} 7", *lines, ""])
    with pytest.raises(ManifestError, match=r"line [45]"):
        Manifest.parse(text.encode())


def test_versions_with_the_same_names_and_specs_share_their_columns() -> None:
    one, other = read_plain([ROW]), read_plain([ROW.replace("a" * 64, "b" * 64)])
    assert one is not None
    assert other is not None
    assert (other.names, other.specs, other.digests) == (["x"], SPECS[:1], DIGESTS[1:])
    assert other.names is one.names
    assert other.specs is one.specs
