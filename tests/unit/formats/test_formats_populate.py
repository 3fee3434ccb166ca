"""Every format's golden file goes through the store, also with a tensor that a merge put in the place of another."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.store.store import Store

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"


@pytest.mark.parametrize(
    "name",
    [
        "legacy-torch-2.13.0.pt",
        "script-torch-2.13.0.pt",
        "exported-torch-2.13.0.pt2",
        "model.nemo",
        "model.bin",
        "model.keras",
        "model.npz",
        "model.pt",
        "model.safetensors",
    ],
)
def test_a_file_comes_back_through_the_store(name, tmp_path):
    data = (GOLDEN / name).read_bytes()
    store = Store(tmp_path / "theta")
    described = clean(memoryview(data), name, store)
    populate(described.manifest, store, tmp_path / name, Expected.at(tmp_path / name))
    assert (tmp_path / name).read_bytes() == data


@pytest.mark.parametrize(("name", "parameter"), [("model.npz", "w"), ("model.pt", "model.w")])
def test_an_archive_with_another_tensor_has_checksums_that_fit(name, parameter, tmp_path):
    store = Store(tmp_path / "theta")
    manifest = clean(memoryview((GOLDEN / name).read_bytes()), name, store).manifest
    spec = manifest.parameters[parameter].spec
    value = np.arange(12, dtype="f4").reshape(spec.shape)
    digest = tensor_digest(spec, value.tobytes())
    store.put([(spec, digest, value.tobytes())])
    merged = replace(manifest, parameters={**manifest.parameters, parameter: Parameter(spec, digest)})
    populate(merged, store, tmp_path / name, Expected.at(tmp_path / name))
    with zipfile.ZipFile(tmp_path / name) as archive:
        assert archive.testzip() is None
    if name == "model.npz":
        with np.load(tmp_path / name) as found:
            assert (found["w"] == value).all()
    else:
        assert (torch.load(tmp_path / name, weights_only=True)["model"]["w"].numpy() == value).all()
