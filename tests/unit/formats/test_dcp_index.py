"""The names that torch.distributed.checkpoint writes beside its files; the golden ones were saved by two processes."""

import pickle
from pathlib import Path

import pytest
from bounds import memory_of

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, IndexedFormat
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.models import parse_index
from git_theta_ext.registry import detect_format, find_format
from git_theta_plugins.formats.torch_dcp import FORMAT

GOLDEN = Path(__file__).parents[2] / "golden" / "dcp"
DATA = (GOLDEN / ".metadata").read_bytes()
NAMES = {
    "__0_0.distcp": ["layer.weight[0:3]", "head.weight[:,0:2]"],
    "__1_0.distcp": ["lr", "layer.weight[3:6]", "head.weight[:,2:4]", "norm.bias", "step"],
}


def test_pieces_of_tensors_are_named_by_the_part_that_they_are():
    index = FORMAT.read_index(DATA)
    assert {file: [name for _, _, name in rows] for file, rows in index.fixed.items()} == NAMES
    assert index.weight_map == {name: file for file, names in NAMES.items() for name in names}
    assert index.to_bytes() == DATA
    assert index.moved({}, {}) is index


@pytest.mark.parametrize("file", NAMES)
def test_every_tensor_of_a_file_has_its_name(file):
    data = memoryview((GOLDEN / file).read_bytes())
    assert detect_format(data) is FORMAT
    index = FORMAT.read_index(DATA)
    names = [index.name_in_model(file, field.name) for field in FORMAT.parse(data) if isinstance(field, Extent)]
    assert names == [name for name in NAMES[file] if name != "lr"]


def test_tensors_in_an_object_have_its_name_before_theirs():
    index = FORMAT.read_index(DATA)
    assert index.name_in_model("__1_0.distcp", "000000.state.exp_avg") == "lr.state.exp_avg"
    for unknown in ("000099.tensor", "x.tensor", "tensor"):
        assert index.name_in_model("__1_0.distcp", unknown) == unknown
    assert index.name_in_model("other", "000000.tensor") == "000000.tensor"


def manifest(*names, kind="torch_dcp"):
    spec = TensorSpec.of("F32", (3,))
    return Manifest(kind, Skeleton("a" * 64, 70), {name: Parameter(spec, "b" * 64) for name in names})


def test_versions_have_the_names_of_the_model_and_know_those_of_the_files():
    assert isinstance(find_format("torch_dcp"), IndexedFormat)
    index = parse_index("ck/.metadata", DATA)
    files = {f"ck/{file}": manifest(*(f"{n:06}.tensor" for n in range(len(names)))) for file, names in NAMES.items()}
    version = ModelVersion.of(files, "ck/.metadata", index)
    assert set(version.parameters) == {name for names in NAMES.values() for name in names}
    assert version.places["layer.weight[3:6]"] == "ck/__1_0.distcp"
    assert version.in_files("ck/__1_0.distcp") is files["ck/__1_0.distcp"]
    assert version.names_in_file("ck/__1_0.distcp")["layer.weight[3:6]"] == "000001.tensor"


def test_a_file_with_one_tensor_is_one_of_torch_and_belongs_to_the_model():
    index = FORMAT.read_index(DATA)
    index.fixed = {**index.fixed, "__2_0.distcp": ((0, 9, "w"),)}
    files = {"__0_0.distcp": manifest("000000.tensor"), "__2_0.distcp": manifest("tensor", kind="torch_zip")}
    version = ModelVersion.of(files, ".metadata", index)
    assert version.format == "torch_dcp"
    assert set(version.parameters) == {"layer.weight[0:3]", "w"}
    with pytest.raises(FormatError, match="different formats"):
        ModelVersion.of({**files, "__1_0.distcp": manifest("0", kind="opaque")}, ".metadata", index)


def test_two_parameters_of_one_name_are_refused():
    with pytest.raises(FormatError, match="same name"):
        ModelVersion.of(
            {"__0_0.distcp": manifest("000000.tensor", "layer.weight[0:3]")}, ".metadata", FORMAT.read_index(DATA)
        )


class _Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged pickle"),
        (DATA[:-9], "damaged pickle"),
        (pickle.dumps({"storage_data": {}}), "not the metadata"),
        (pickle.dumps(_Evil()), "not the metadata"),
        (DATA.replace(b"__0_0.distcp", b"../_0.distcp"), "not the name of a file"),
        (DATA.replace(b"\x8c\x06length", b"\x8c\x06lenght"), "impossible place"),
        (DATA.replace(b"\x8c\x0dMetadataIndex", b"\x8c\x0dMetadataIndeX"), "0 keys for 7 places"),
    ],
)
def test_other_files_are_refused_and_nothing_runs(data, message, capsys):
    with pytest.raises(FormatError, match=message):
        FORMAT.read_index(data)
    assert capsys.readouterr().out == ""


def test_reading_takes_memory_in_proportion():
    assert memory_of(lambda: FORMAT.read_index(DATA)) < 40 * len(DATA) + (1 << 18)
