"""Several devices share a merge, and know what fits into their memory."""

import threading

import numpy as np
import pytest
import torch

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.registry import built_in, find_merge

SINGLE = [
    name
    for name in built_in("merges")
    if find_merge(name).contract.granularity != "pair" and not find_merge(name).contract.sidecars
]


class Worker(Cpu):
    """Notes what it loads, and fails on request."""

    fused = False

    def __init__(self, name="cpu", room=None, error=None):
        self.name, self.room, self.error, self.loaded = name, room, error, 0

    def free(self):
        return self.room

    def load(self, data, dtype, *, wide):
        self.loaded += len(data)
        if self.error is not None:
            raise self.error
        return super().load(data, dtype, wide=wide)


def versions(bench, names=6, kind=np.float32):
    rng = np.random.default_rng(1)
    shapes = {f"w{n}": (40 + 7 * n, 30) for n in range(names)} | {"b": (9,)}
    return [
        bench.manifest({name: rng.normal(size=shape).astype(kind) for name, shape in shapes.items()}) for _ in range(3)
    ]


def merged(bench, rows, devices, method="average", options=None):
    asked = plan(rows[0], rows[1:], Rules.only(method, options or {}))
    return apply(asked, bench.store, lambda: Engine(bench.store, devices))


CASES = [(name, {}) for name in SINGLE] + [
    ("ties", {"scope": "tensor"}),
    ("ties", {"ties": "exact"}),
    ("ties", {"majority": "count", "density": 1.0}),
]


@pytest.mark.parametrize(("method", "options"), CASES, ids=str)
def test_two_devices_share_the_work_and_have_the_bits_of_one(bench, method, options):
    rows = versions(bench)
    workers = Worker(), Worker()
    # A method that decomposes rounds as the number of threads may have it.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = merged(bench, rows, Devices((Cpu(),)), method, options)
        found = merged(bench, rows, Devices(workers), method, options)
    finally:
        torch.set_num_threads(threads)
    assert expected.conflicts == 0
    assert found == expected
    assert min(worker.loaded for worker in workers) > 0.3 * max(worker.loaded for worker in workers)


def test_what_pieces_depend_on_each_other_for_is_done_by_one_device(bench):
    rows, workers = versions(bench), (Worker(), Worker())
    merged(bench, rows, Devices(workers), "ties", {"ties": "exact"})
    halves = [worker.loaded for worker in workers]
    once = sum(p.spec.nbytes for row in rows for p in row.parameters.values())
    assert sum(halves) in {3 * once, 4 * once}  # both counted, in two readings; then it is merged, perhaps again
    assert max(halves) - min(halves) > sum(halves) - 2.1 * once


def test_a_wrong_guess_of_the_majority_changes_nothing_on_any_number_of_devices(bench, monkeypatch):
    from git_theta_ext.merging.thresholds.radix_select import Selection

    votes = Selection.votes
    values = {"a": ([0] * 4, [1] * 4, [0.5] * 4), "b": ([0] * 4, [1, -1, 1, -1], [-1, 1, 2, -2])}
    rows = [bench.manifest({name: np.float32(found[n]) for name, found in values.items()}) for n in range(3)]
    for asked in ({"density": 1.0}, {"density": 0.6, "ties": "exact"}, {"density": 0.6, "scope": "tensor"}):
        expected = merged(bench, rows, Devices((Cpu(),)), "ties", asked)
        with monkeypatch.context() as patch:
            patch.setattr(Selection, "votes", lambda s, t, alone: votes(s, t, alone=alone) * (1 if alone else -1))
            for devices in ((Cpu(),), (Cpu(), Cpu())):
                assert merged(bench, rows, Devices(devices), "ties", asked).manifest == expected.manifest


@pytest.mark.parametrize("method", ["average", "slerp", "ties"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("a disk went")], ids=repr)
def test_an_error_on_one_device_ends_the_merge(bench, method, error):
    before = threading.active_count()
    with pytest.raises(type(error)):
        merged(bench, versions(bench), Devices((Worker(), Worker(error=error))), method)
    assert threading.active_count() == before


def test_what_one_device_cannot_merge_does_not_keep_others_from_the_rest(bench):
    base, one, two = ({f"w{n}": [float(value)] for n in range(6)} for value in (0, 2, 4))
    one["w3"] = [float("nan")]
    rows = [bench.manifest(row) for row in (base, one, two)]
    found = merged(bench, rows, Devices((Cpu(), Cpu(), Cpu())))
    assert [conflict.name for conflict in found.manifest.conflicts] == ["w3"]
    assert found.computed == {"average": 5}


@pytest.mark.parametrize(("method", "on_device"), [("ties", False), ("slerp", False), ("iso_c", True)])
def test_devices_for_matrices_leave_the_other_methods_to_the_spare_one(bench, method, on_device):
    rows, device, spare, announced = versions(bench), Worker("cuda:0"), Worker(), []
    devices = Devices((device,), spare, matrices_only=True)
    asked = plan(rows[0], rows[1:], Rules.only(method))
    found = apply(asked, bench.store, lambda: Engine(bench.store, devices, announce=announced.append))
    assert (device.loaded > 0, spare.loaded > 0) == (on_device, not on_device)
    assert found.notes == ()
    busy = [name for name, nbytes in announced[0].peaks if nbytes]
    assert busy == (["cuda:0"] if on_device else ["cpu"])
    assert announced[0].spilled == ()


def test_what_no_device_has_memory_for_goes_to_the_one_to_spare_with_a_note(bench):
    rows = versions(bench)
    small, large, spare = Worker("cuda:0", 10), Worker("cuda:1", 130_000), Worker()
    found = merged(bench, rows, Devices((small, large), spare))
    assert found.manifest == merged(bench, rows, Devices((Cpu(),))).manifest
    assert small.loaded == 0
    assert large.loaded > 0
    assert spare.loaded > 0
    (note,) = found.notes
    assert note.startswith("'w5' and ")
    assert "MB of memory, and cuda:1 has 0 MB free: merged on the CPU" in note


def test_without_one_to_spare_a_lack_of_memory_is_reported_before_anything_is_computed(bench):
    worker = Worker("cuda:1", 130_000)
    with pytest.raises(MergeError, match=r"'w\d' needs 0 MB of memory, and cuda:1 has 0 MB free") as caught:
        merged(bench, versions(bench), Devices((worker,)))
    assert caught.value.hint == "git config theta.merge.device auto"
    assert worker.loaded == 0


@pytest.mark.usefixtures("composing")
def test_loras_are_shared_out_too(bench):
    rng = np.random.default_rng(2)
    shapes = {f"l{n}.lora_A.weight": (2, 6) for n in range(4)} | {f"l{n}.lora_B.weight": (5, 2) for n in range(4)}
    rows = [
        bench.manifest({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})
        for _ in range(3)
    ]
    workers = Worker(), Worker()
    found = merged(bench, rows, Devices(workers), "lora_concat")
    assert found == merged(bench, rows, Devices((Cpu(),)), "lora_concat")
    assert found.computed == {"lora_concat": 8}
    assert workers[0].loaded == workers[1].loaded > 0
