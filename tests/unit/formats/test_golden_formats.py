"""Manifests that were made once must come out the same for ever: names, specs, digests and skeletons."""

import json
from pathlib import Path

import pytest

from git_theta_ext.model.tensor import skeleton_spec, tensor_digest
from git_theta_ext.registry import built_in, detect_format
from git_theta_ext.testing.formats import lay_out

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def described(path):
    data = path.read_bytes()
    found = detect_format(memoryview(data))
    layout, tensors = lay_out(found, data)
    skeleton = layout.to_skeleton()
    return {
        "format": found.name,
        "skeleton": tensor_digest(skeleton_spec(len(skeleton)), skeleton),
        "parameters": {
            name: [str(spec), tensor_digest(spec, tensors[name])] for name, spec in layout.parameters.items()
        },
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_described_as_it_always_was(name):
    assert described(GOLDEN / name) == EXPECTED[name]


def test_no_golden_file_is_left_out():
    assert {path.name for path in GOLDEN.iterdir()} == {*EXPECTED, "expected.json"}


def test_every_built_in_format_has_a_golden_file():
    assert {expected["format"] for expected in EXPECTED.values()} == set(built_in("formats"))
