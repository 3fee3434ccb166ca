"""Rows of torch's zip files, as torch.distributed.checkpoint writes them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.registry import detect_format
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import lay_out
from git_theta_plugins.formats.torch_dcp import FORMAT
from git_theta_plugins.formats.torch_zip import FORMAT as TORCH_ZIP

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
ONE = (GOLDEN / "model.pt").read_bytes()


def archive(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


PLAIN = archive({"archive/data.pkl": b"\x80\x02K\x05.", "archive/version": b"3\n"})


class TestTorchDcp(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "two": ONE + ONE,
        "values that are no tensors": PLAIN + ONE + PLAIN,
        "golden": (GOLDEN / "model.distcp").read_bytes(),
    }

    def test_tensors_are_named_by_the_number_of_their_archive(self):
        layout, tensors = lay_out(FORMAT, PLAIN + ONE)
        names = [name for name in layout.parameters if name.startswith("000001.")]
        assert names == list(layout.parameters)
        assert len(tensors) == len(names) > 1

    def test_facts_are_those_of_each_archive(self):
        layout = lay_out(FORMAT, PLAIN + ONE + PLAIN)[0]
        facts = FORMAT.facts(layout)
        assert facts["000000/data.pkl"] == facts["000002/data.pkl"] == b"\x80\x02K\x05."
        assert {key: value for key, value in facts.items() if key.startswith("000001/")} == {
            f"000001/{key}": value for key, value in TORCH_ZIP.facts(lay_out(TORCH_ZIP, ONE)[0]).items()
        }

    def test_one_archive_is_no_row(self):
        for data in (ONE, PLAIN):
            assert detect_format(memoryview(data)).name == "torch_zip"
        assert detect_format(memoryview(ONE + PLAIN)).name == "torch_dcp"

    def test_bytes_of_a_tensor_that_look_like_an_end_are_none(self):
        data = archive({"archive/data.pkl": b"\x80\x02K\x05.", "archive/x": (b"PK\5\6" + bytes(30)) * 9})
        assert lay_out(FORMAT, data + ONE)[0].nbytes == len(data + ONE)

    def test_bytes_outside_of_archives_are_not_split(self):
        for data in (ONE + b"\0" + ONE, ONE + ONE + b"\0", ONE + ONE[4:]):
            with pytest.raises(NotSplittable, match="belong to no zip"):
                FORMAT.parse(memoryview(data))

    def test_a_damaged_archive_is_named(self):
        at = len(PLAIN) + ONE.index(b"data.pkl")
        damaged = bytearray(PLAIN + ONE)
        damaged[at] ^= 1
        with pytest.raises(FormatError, match=f"archive 1 at byte {len(PLAIN)}"):
            FORMAT.parse(memoryview(damaged))
