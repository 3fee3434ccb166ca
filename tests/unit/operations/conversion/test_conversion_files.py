"""Files that conversions write: the bytes of the libraries that read them, or a refusal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from tensors_in_memory import InMemory, tensors_of

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.merging.devices.state_dicts import to_bytes
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.conversion.safetensors_file import types
from git_theta_ext.operations.conversion.targets import TARGETS, target_of
from git_theta_ext.operations.conversion.tensors import chosen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REAL = ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"]
WHOLE = ["BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"]
EVERY = [*REAL, *WHOLE, "C64", "C128"]
NUMPY = {"F16", "F32", "F64", *WHOLE, "C64", "C128"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one directory for all examples of the properties."""
    return tmp_path_factory.mktemp("conversion")


def written(name: str, values: Mapping[str, tuple[TensorSpec, bytes]], folder: Path, **metadata: str) -> bytes:
    """Check and write tensors, and return the file."""
    tensors, path = InMemory(values), folder / "file"
    TARGETS[name].check(tensors.specs)
    TARGETS[name].write(path, tensors, metadata)
    return path.read_bytes()


def as_torch(values: Mapping[str, tuple[TensorSpec, bytes]]) -> dict[str, torch.Tensor]:
    from git_theta_ext.merging.devices.state_dicts import to_tensor

    return {name: to_tensor(spec, bytearray(data)) for name, (spec, data) in values.items()}


@settings(max_examples=50)
@given(tensors_of([kind for kind in EVERY if kind != "C128"]), st.booleans())
def test_a_file_of_safetensors_has_the_bytes_of_its_library(folder, values, marked) -> None:
    metadata = {"format": "pt"} if marked else {}
    assert written("safetensors", values, folder, **metadata) == save(as_torch(values), metadata or None)


@settings(max_examples=50)
@given(tensors_of(EVERY))
def test_a_file_of_torch_is_that_of_its_library_and_loads(folder, values) -> None:
    data = written("torch", values, folder)
    expected = io.BytesIO()
    torch.save(as_torch(values), expected)
    assert data == expected.getvalue()
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    bits = {name: to_bytes(name, tensor) for name, tensor in loaded.items()}
    assert {name: (spec, bytes(view)) for name, (spec, view) in bits.items()} == values


@settings(max_examples=50)
@given(tensors_of(sorted(NUMPY)))
def test_an_archive_of_numpy_is_that_of_its_library_and_loads(folder, values) -> None:
    data = written("npz", values, folder)
    arrays = {name: tensor.numpy() for name, tensor in as_torch(values).items()}
    if "file" not in arrays:
        expected = io.BytesIO()
        np.savez(expected, **arrays)
        assert data == expected.getvalue()
    with np.load(io.BytesIO(data)) as archive:
        assert {name: archive[name].tobytes() for name in archive.files} == {n: v for n, (_, v) in values.items()}
        assert all(archive[name].shape == values[name][0].shape for name in archive.files)


@pytest.mark.parametrize(
    ("target", "kind"),
    [("npz", "BF16"), ("npz", "F8_E4M3"), ("safetensors", "C128"), ("torch", "F4"), ("safetensors", "opaque272:Q8_0")],
)
def test_an_element_type_that_does_not_exist_there_is_refused_with_the_parameter(target: str, kind: str) -> None:
    specs = {"fine": TensorSpec.of("F32", (1,)), "odd": TensorSpec.of(kind, (2,))}
    with pytest.raises(FormatError, match=f"parameter 'odd' .*{kind}.*{target}") as caught:
        TARGETS[target].check(specs)
    assert "--param" in (caught.value.hint or "")


@pytest.mark.parametrize(("target", "name"), [("npz", "a.npy"), ("npz", ""), ("safetensors", "__metadata__")])
def test_a_name_that_does_not_come_back_is_refused(target: str, name: str) -> None:
    with pytest.raises(FormatError, match=f"'{name}'"):
        TARGETS[target].check({name: TensorSpec.of("F32", (1,))})


def test_the_order_of_safetensors_is_that_of_all_types_it_has() -> None:
    assert set(types()) == {*EVERY, "F4", "F6_E2M3", "F6_E3M2"} - {"C128"}


def test_the_name_of_a_file_means_a_format(tmp_path: Path) -> None:
    names = ["m.pt", "m.npz", "m.bin", "m.safetensors", "m"]
    assert [target_of(tmp_path / name).name for name in names] == [
        "torch",
        "npz",
        "torch",
        "safetensors",
        "safetensors",
    ]


def test_parameters_are_chosen_by_name_and_by_glob() -> None:
    names = ["a.weight", "a.bias", "b.weight", "[x]"]
    assert chosen(names, ["*.weight"], place="here", hint="") == ["a.weight", "b.weight"]
    assert chosen(names, ["[x]", "a.bias"], place="here", hint="") == ["a.bias", "[x]"]
    with pytest.raises(UsageError, match=r"here has no parameter 'b\.weihgt'") as caught:
        chosen(names, ["b.weihgt"], place="here", hint="")
    assert caught.value.hint == "did you mean b.weight?"
