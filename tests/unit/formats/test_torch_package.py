"""Archives of torch.package, against one that torch wrote and against ones made by hand."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.registry import detect_format
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.torch_package import FORMAT

PACKAGE = (Path(__file__).parents[2] / "golden" / "formats" / "package-torch-2.13.0.pt").read_bytes()


def package(**changes):
    """Return the archive with other members; those that are None are left out."""
    with zipfile.ZipFile(io.BytesIO(PACKAGE)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    prefix = next(iter(members)).partition("/")[0]
    members |= {f"{prefix}/{name}": data for name, data in changes.items()}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(name, data)
    return made.getvalue()


class TestTorchPackage(FormatTests):
    format = FORMAT
    examples = {"two pickles": PACKAGE, "written anew": package()}  # noqa: RUF012 - as the suite asks

    def test_storages_have_the_names_of_the_pickle_and_of_the_tensor(self):
        layout, _ = lay_out(FORMAT, PACKAGE)
        assert {name: str(spec) for name, spec in layout.parameters.items()} == {
            "model/model.0.weight": "F16 [3,4]",
            "model/model.0.bias": "F16 [3]",
            "model/model.1.weight": "F16 [2,3]",
            "model/model.1.bias": "F16 [2]",
            "optimizer/state.step": "I64 []",
            "optimizer/state.momentum": "F32 [3,4]",
        }

    def test_the_only_pickle_with_tensors_gives_no_prefix(self):
        layout, _ = lay_out(FORMAT, package(**{"optimizer/state.pkl": b"no pickle"}))
        assert list(layout.parameters) == ["0.weight", "0.bias", "1.weight", "1.bias"]

    def test_checksums_of_exchanged_tensors_are_right(self):
        layout, tensors = lay_out(FORMAT, PACKAGE)
        changed = assemble(layout, {**tensors, "model/model.0.bias": bytes(6)})
        assert zipfile.ZipFile(io.BytesIO(changed)).testzip() is None

    def test_texts_are_facts_and_ids_of_the_writing_are_not(self):
        facts = FORMAT.facts(lay_out(FORMAT, PACKAGE)[0])
        assert facts["notes/notes.txt"] == b"kept"
        assert ".data/serialization_id" not in facts
        assert {"model/model.pkl", ".data/extern_modules"} <= facts.keys()

    def test_it_is_detected_before_other_archives(self):
        assert detect_format(memoryview(PACKAGE)) is FORMAT

    @pytest.mark.parametrize("storage", [None, b"short"])
    def test_a_missing_storage_is_refused_by_name(self, storage):
        with pytest.raises(FormatError, match=r"'model/model\.0\.weight'.*24 bytes"):
            FORMAT.parse(memoryview(package(**{".data/0.storage": storage})))

    def test_a_package_without_tensors_is_not_split(self):
        with pytest.raises(NotSplittable, match="no tensors"):
            FORMAT.parse(memoryview(package(**{"model/model.pkl": b"N.", "optimizer/state.pkl": b"N."})))
