"""Keras's archives around the HDF5 files of the golden tests."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import lay_out
from git_theta_plugins.formats.hdf5 import FORMAT as HDF5
from git_theta_plugins.formats.keras import FORMAT

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
WEIGHTS = (GOLDEN / "model.h5").read_bytes()


def keras(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in {"metadata.json": b"{}", "config.json": b'{"class_name": "Sequential"}', **members}.items():
            archive.writestr(name, data)
    return file.getvalue()


class TestKeras(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "one file": keras({"model.weights.h5": WEIGHTS}),
        "assets": keras({"model.weights.h5": WEIGHTS, "assets/vocabulary.txt": b"a\nb\n"}),
        "golden": (GOLDEN / "model.keras").read_bytes(),
    }

    def test_tensors_are_those_of_the_weights(self):
        assert lay_out(FORMAT, self.examples["one file"])[1] == lay_out(HDF5, WEIGHTS)[1]

    def test_several_files_of_weights_have_their_names_before_the_datasets(self):
        names = lay_out(FORMAT, keras({"a.weights.h5": WEIGHTS, "b.weights.h5": WEIGHTS}))[0].parameters
        assert {"a/flags", "b/flags"} <= set(names)

    def test_other_members_are_facts(self):
        facts = FORMAT.facts(lay_out(FORMAT, self.examples["assets"])[0])
        assert facts["assets/vocabulary.txt"] == b"a\nb\n"

    def test_other_archives_are_not_keras(self):
        for members in ({}, {"weights.h5": WEIGHTS}):
            assert not FORMAT.detect(memoryview(keras(members)))

    def test_weights_that_are_not_hdf5_are_refused(self):
        with pytest.raises(FormatError, match="not an HDF5 file"):
            FORMAT.parse(memoryview(keras({"model.weights.h5": b"x"})))

    def test_a_dataset_beyond_its_member_is_refused(self):
        end = max(extent.end for extent in HDF5.parse(memoryview(WEIGHTS)))
        cut = keras({"model.weights.h5": WEIGHTS[: end - 1], "z": bytes(4000)})
        with pytest.raises(FormatError, match=r"outside of 'model\.weights\.h5'|truncated"):
            FORMAT.parse(memoryview(cut))

    def test_compressed_members_are_not_split(self):
        with pytest.raises(NotSplittable, match="compressed"):
            FORMAT.parse(memoryview(keras({"model.weights.h5": WEIGHTS}, zipfile.ZIP_DEFLATED)))
