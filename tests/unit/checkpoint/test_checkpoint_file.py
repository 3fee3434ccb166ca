"""A checkpoint is opened for reading in one way."""

from __future__ import annotations

import pytest
from helpers import safetensors

from git_theta_ext.checkpoint.clean import describe
from git_theta_ext.checkpoint.file import open_checkpoint_file
from git_theta_ext.errors import FormatError, StoreError, UsageError
from git_theta_ext.model.manifest import values_digest

LARGE = bytes(position % 251 for position in range(4 * 600_000))
DATA = safetensors({"large": ("F32", (600_000,), LARGE), "none": ("F32", (0,), b""), "small": ("I64", (), bytes(8))})


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "model.safetensors"
    made.write_bytes(DATA)
    return made


def test_values_are_those_of_the_file(path):
    file = open_checkpoint_file(path)
    assert {name: str(spec) for name, spec in file.specs.items()} == {
        "large": "F32 [600000]",
        "none": "F32 [0]",
        "small": "I64 []",
    }
    assert [chunk.nbytes for chunk in file.chunks("large")] == [1 << 21, len(LARGE) - (1 << 21)]
    assert file.value("large") == LARGE == b"".join(file.chunks("large"))
    assert not file.value("large").readonly
    assert file.value("none") == b""
    assert file.values_digest() == values_digest(describe(memoryview(DATA), "m").manifest.parameters)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (describe(memoryview(DATA), "m").manifest.to_bytes(), UsageError, "label is only a manifest"),
        (b"", FormatError, "label: the file is empty"),
        (b"no checkpoint" * 100, FormatError, "label: its tensors cannot be found"),
        (DATA[:-1], FormatError, "label: .*small"),
    ],
    ids=["manifest", "empty", "text", "truncated"],
)
def test_a_file_without_tensors_is_refused(tmp_path, content, error, message):
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(error, match=message):
        open_checkpoint_file(path, "label")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match="cannot read label: No such file"):
        open_checkpoint_file(tmp_path / "model", "label")
