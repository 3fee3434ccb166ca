"""Devices are opened by name, and ``auto`` uses only those that work, and only for methods that gain by them."""

import sys

import numpy as np
import pytest
import torch
from emulation import emulate

from git_theta_ext.errors import ConfigError, LibraryError
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.devices import cuda
from git_theta_ext.merging.devices import open as opening
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.open import device_names, open_devices
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.registry import find_merge

MATRICES, ELEMENTS = ([find_merge(name).contract] for name in ("iso_c", "ties"))

LANE = cuda._Lane


@pytest.mark.parametrize(
    ("count", "asked", "found"),
    [
        (0, "auto", ("cpu",)),
        (0, "cpu", ("cpu",)),
        (2, "auto", ("cuda:0", "cuda:1")),
        (2, "cuda", ("cuda:0", "cuda:1")),
        (2, "cuda:1", ("cuda:1",)),
        (2, "cpu", ("cpu",)),
    ],
)
def test_devices_by_name(monkeypatch, count, asked, found):
    monkeypatch.setattr(opening, "_DRIVERS", ("null",))  # in /dev
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert device_names(asked, MATRICES) == found
    assert device_names(asked, ELEMENTS) == (("cpu",) if asked == "auto" else found)


@pytest.mark.parametrize("driver", ["null", "no-such-driver"])
def test_torch_is_asked_for_devices_only_where_there_is_a_driver(monkeypatch, driver):
    monkeypatch.setattr(opening, "_DRIVERS", (driver,))
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: asked.append(1) or True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    there = driver == "null"  # in /dev
    assert device_names("auto", ELEMENTS) == ("cpu",)
    assert not asked
    assert device_names("auto", MATRICES) == (("cuda:0",) if there else ("cpu",))
    assert bool(asked) == there
    assert device_names("cuda", ELEMENTS) == ("cuda:0",)


def test_a_torch_that_cannot_be_imported_leaves_the_processor_unless_a_device_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(opening, "_DRIVERS", ("null",))  # in /dev
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch")
    assert device_names("auto", MATRICES) == ("cpu",)
    with pytest.raises(LibraryError, match="libcudart"):
        device_names("cuda", MATRICES)


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", ""])
def test_names_of_no_device_are_refused(asked):
    with pytest.raises(ConfigError, match=r"theta\.merge\.device is"):
        device_names(asked, ELEMENTS)


@pytest.mark.parametrize(("count", "asked"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
def test_devices_that_are_not_here_are_refused(monkeypatch, count, asked):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ConfigError, match="no such device"):
        open_devices(asked, ELEMENTS)


def test_the_processor_is_to_spare_only_where_nothing_was_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert isinstance(open_devices("auto", MATRICES).spare, Cpu)
    assert open_devices("cpu", MATRICES).spare is None


REFUSALS = {
    "no kernel image is available for execution on the device": RuntimeError(
        "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors may come late"
    ),
    "all CUDA-capable devices are busy or unavailable": RuntimeError(
        "CUDA error: all CUDA-capable devices are busy or unavailable"
    ),
    "CUDA out of memory": torch.cuda.OutOfMemoryError("CUDA out of memory."),
    "not compiled with CUDA enabled": AssertionError("Torch not compiled with CUDA enabled"),
    "the driver is too old": torch.cuda.DeferredCudaCallError("CUDA call failed lazily: the driver is too old"),
}


@pytest.fixture
def devices(monkeypatch):
    """Return the names of the emulated CUDA devices, which can be changed."""
    emulate(monkeypatch, 64)
    names = ["cuda:0", "cuda:1"]
    monkeypatch.setattr(opening, "_DRIVERS", ("null",))  # in /dev
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    return names


def refuse(monkeypatch, where, error, names):
    """Let an operation fail on some devices."""
    before, operation = getattr(*where), where[1]

    def refusing(self, *args, **kwargs):
        if (args[0] if operation == "__init__" else self.name) in names:
            raise error
        return before(self, *args, **kwargs)

    monkeypatch.setattr(*where, refusing)


@pytest.mark.parametrize("words", REFUSALS)
@pytest.mark.parametrize("operation", ["__init__", "try_out"])
def test_a_device_that_cannot_be_used_is_left_out_or_refused(monkeypatch, devices, operation, words):
    refuse(monkeypatch, (cuda.Cuda, operation), REFUSALS[words], {"cuda:0"})
    found = open_devices("auto", MATRICES)
    assert [device.name for device in found.used] == ["cuda:1"]
    assert found.matrices_only
    assert isinstance(found.spare, Cpu)
    (note,) = found.notes
    assert note.startswith("cuda:0 cannot be used (")
    assert words in note
    assert "\n" not in note
    for asked in ("cuda", "cuda:0"):
        with pytest.raises(ConfigError, match=r"cuda:0 cannot be used") as caught:
            open_devices(asked, MATRICES)
        assert caught.value.hint == "git config theta.merge.device cpu"
    assert [device.name for device in open_devices("cuda:1", ELEMENTS).used] == ["cuda:1"]


def test_the_processor_merges_if_no_device_can_be_used_and_says_so_in_a_line(monkeypatch, bench, devices):
    refuse(monkeypatch, (cuda.Cuda, "try_out"), REFUSALS["CUDA out of memory"], set(devices))
    rows = [bench.manifest({"a": np.full((3, 2), seed, np.float32)}) for seed in range(3)]

    def merged(method, setting):
        start = lambda: Engine(bench.store, lambda contracts: open_devices(setting, contracts))  # noqa: E731
        return apply(plan(rows[0], rows[1:], Rules.only(method)), bench.store, start)

    found, expected = merged("iso_c", "auto"), merged("iso_c", "cpu")
    assert found.manifest == expected.manifest
    assert found.notes == tuple(f"{name} cannot be used (CUDA out of memory): merging on the CPU" for name in devices)
    assert merged("ties", "auto").notes == ()


def test_a_device_that_computes_wrong_results_is_not_used(monkeypatch, devices):
    monkeypatch.setattr(LANE, "save", lambda self, values, kind, room: None)
    found = open_devices("auto", MATRICES)
    assert [device.name for device in found.used] == ["cpu"]
    assert "it computes wrong results" in found.notes[0]


def test_every_device_is_tried_out_before_it_is_used(monkeypatch, devices):
    tried = []
    monkeypatch.setattr(cuda.Cuda, "try_out", lambda self: tried.append(self.name))
    for asked, names in (("auto", devices), ("cuda", devices), ("cuda:1", ["cuda:1"])):
        tried.clear()
        open_devices(asked, MATRICES)
        assert tried == names
