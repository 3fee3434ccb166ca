"""Archives of torch.export: real ones, and tables that lie."""

import io
import json
import zipfile
from pathlib import Path

import pytest
import torch

from git_theta_ext.errors import FormatError
from git_theta_ext.registry import detect_format
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.torch_export import FORMAT

MODEL = "m/data/weights/model_weights_config.json"


EXPORTED = (Path(__file__).parents[2] / "golden" / "formats" / "exported-torch-2.13.0.pt2").read_bytes()
"""A module with a weight of two names, a view, a bfloat16 parameter and a constant."""


class TestTorchExport(FormatTests):
    format = FORMAT
    examples = {"a module": EXPORTED}  # noqa: RUF012 - as the suite asks


def specs(data):
    return {name: str(spec) for name, spec in lay_out(FORMAT, data)[0].parameters.items()}


def test_parameters_have_the_names_of_the_state_dict_and_each_storage_is_one():
    assert specs(EXPORTED) == {
        "weight": "F32 [4,3]",
        "scale": "BF16 [3]",
        "column": "F32 [6]",
        "steps": "I64 []",
        "lifted_tensor_0": "F32 [1]",
    }


def test_no_other_format_takes_it():
    assert detect_format(memoryview(EXPORTED)) is FORMAT


@pytest.mark.soak  # loading takes seconds, as torch compiles what it imports for it
def test_other_values_give_an_archive_that_torch_loads():
    layout, tensors = lay_out(FORMAT, EXPORTED)
    values = torch.ones(4, 3)
    changed = assemble(layout, {**tensors, "weight": values.numpy().tobytes()})
    state = torch.export.load(io.BytesIO(changed)).state_dict
    assert torch.equal(state["tied"], values)
    assert state["column"].tolist() == [1, 3, 5]


def test_other_values_give_an_archive_with_checksums_that_fit():
    layout, tensors = lay_out(FORMAT, EXPORTED)
    changed = assemble(layout, {**tensors, "weight": bytes(range(48))})
    with zipfile.ZipFile(io.BytesIO(changed)) as archive:
        assert archive.testzip() is None


def test_facts_are_the_program_and_the_tables():
    facts = FORMAT.facts(lay_out(FORMAT, EXPORTED)[0])
    assert "models/model.json" in facts
    assert facts["data/weights/model_weights_config.json"].startswith(b'{"config"')
    assert not any("weight_" in name for name in facts)


def archive(table=None, **members):
    meta = {
        "dtype": 7,
        "sizes": [{"as_int": 2}],
        "strides": [{"as_int": 1}],
        "storage_offset": {"as_int": 0},
    }
    entry = {"path_name": "w0", "is_param": True, "use_pickle": False, "tensor_meta": meta}
    if table is None or callable(table):
        content = {"config": {"w": entry}}
        if table:
            table(entry, meta)
        table = json.dumps(content).encode()
    made = {"m/data/weights/w0": bytes(8), MODEL: table, "m/archive_format": b"pt2"}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as new:
        for name, data in {**made, **{name.replace("__", "/"): data for name, data in members.items()}}.items():
            new.writestr(name, data)
    return target.getvalue()


def test_pickled_weights_and_other_objects_are_literal():
    assert specs(archive()) == {"w": "F32 [2]"}
    assert specs(archive(lambda entry, _: entry.update(use_pickle=True))) == {}
    assert specs(archive(lambda entry, _: entry.update(tensor_meta=None))) == {}


def test_tables_of_several_models_give_names_with_those_of_the_models():
    table = json.loads(zipfile.ZipFile(io.BytesIO(archive())).read(MODEL))
    other = {"m__data__weights__other_model_weights_config.json": json.dumps(table).encode()}
    with pytest.raises(FormatError, match="overlaps"):  # both name one record
        lay_out(FORMAT, archive(**other))
    table["config"]["w"]["path_name"] = "w1"
    other = {key: json.dumps(table).encode() for key in other}
    assert specs(archive(**other, m__data__weights__w1=bytes(8))) == {"model.w": "F32 [2]", "other_model.w": "F32 [2]"}


BROKEN = {
    "no record": (lambda entry, _: entry.update(path_name="../w"), "'w': the archive lacks"),
    "no type": (lambda _, meta: meta.update(dtype=99), "'w' has an unknown element type"),
    "type that does not fit": (lambda _, meta: meta.update(dtype=11), "'w': .* has 8 bytes"),
    "symbolic": (lambda _, meta: meta.update(sizes=[{"as_expr": "n"}]), "'w': .* no shape and strides"),
    "negative": (lambda _, meta: meta.update(sizes=[{"as_int": -1}]), "'w': .* impossible shape"),
    "outside": (lambda _, meta: meta.update(storage_offset={"as_int": 1}), "'w' reaches outside"),
    "no JSON": (b"{", "is not JSON"),
    "no table": (b"[]", "does not list tensors"),
    "deep": (b"[" * 100_000, "is not JSON"),
}


@pytest.mark.parametrize(("table", "message"), BROKEN.values(), ids=BROKEN)
def test_a_table_that_lies_is_refused(table, message):
    with pytest.raises(FormatError, match=message):
        lay_out(FORMAT, archive(table))


def test_an_archive_of_another_kind_is_refused():
    with pytest.raises(FormatError, match=r"not one of torch\.export"):
        FORMAT.parse(memoryview(archive(**{"m/archive_format": b"other"})))
