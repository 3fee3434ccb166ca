"""The memory that a merge needs is foreseen, and is enough."""

import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from emulation import emulate

from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.devices import cuda
from git_theta_ext.merging.devices.cuda import LANES
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.execution import tasks
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.execution.memory import DeviceMemory, budget, need
from git_theta_ext.merging.execution.tasks import single_tasks
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.registry import built_in, find_merge
from git_theta_ext.testing.memory import Watch

LIBRARIES = 1 << 26


class Lane(Watch):
    """Watches what one lane holds, and all of them together."""

    def __init__(self, total, known):
        self.total = total
        super().__init__(known)

    def _add(self, tensor, *, counts):
        super()._add(tensor, counts=counts)
        self.total.look()


class Total:
    def __init__(self):
        self.lanes, self.peak, self.lock = [], 0, threading.Lock()

    def look(self):
        with self.lock:
            self.peak = max(self.peak, sum(lane.held for lane in self.lanes))


@pytest.fixture
def watched(monkeypatch):
    """Return a CUDA device, emulated on the processor, and what its lanes hold."""
    monkeypatch.setattr(cuda, "SPAN", 1)
    monkeypatch.setattr(cuda.Cuda, "span", 1)
    monkeypatch.setattr(tasks, "ROW_ELEMENTS", 1 << 16)
    device, total = emulate(monkeypatch, 1 << 20), Total()
    lane = device.lane

    @contextmanager
    def watching():
        with lane() as inner:
            watch = Lane(total, [slab.room for slab in inner._slabs])
            with watch:
                total.lanes.append(watch)
                yield inner
            total.lanes.remove(watch)

    monkeypatch.setattr(device, "lane", watching)
    return device, total


def drawn(kind, shape, seed):
    bits = np.random.default_rng(seed).normal(0, 0.02, shape).astype(np.float32).view(np.uint32)
    return {"BF16": ("BF16", (bits >> 16).astype("<u2")), "F32": ("F32", bits.astype("<u4"))}[kind]


SHAPES = {"large": {"a": (1300, 1000), "b": (600, 1000), "c": (7,)}, "rows": {"a": (900, 300), "b": (100, 300)}}
SHAPES["matrices"] = {"a": (200, 70), "b": (60, 300)}
SHAPES_OF = {"element": "large", "row": "rows", "matrix": "matrices"}
CONTRACTS = {name: find_merge(name).contract for name in built_in("merges")}
CASES = [
    (name, SHAPES_OF[contract.granularity], {})
    for name, contract in CONTRACTS.items()
    if contract.granularity in SHAPES_OF and not contract.sidecars
]
CASES += [("ties", "large", {"scope": "tensor"}), ("ties", "matrices", {"ties": "exact"})]


@pytest.mark.parametrize(("kind", "threads"), [("F32", 1), ("BF16", LANES + 2)])
@pytest.mark.parametrize(("method", "shapes", "options"), CASES, ids=str)
def test_values_on_a_device_take_no_more_than_was_foreseen(bench, watched, method, shapes, options, kind, threads):
    device, total = watched
    bench.store.threads = threads
    rows = [
        bench.manifest({name: drawn(kind, shape, seed) for name, shape in SHAPES[shapes].items()}) for seed in range(3)
    ]
    asked = plan(rows[0], rows[1:], Rules.only(method, options))
    announced = []
    found = apply(asked, bench.store, lambda: Engine(bench.store, Devices((device,)), announce=announced.append))
    assert found.conflicts == 0
    (foreseen,) = announced
    ((name, peak),) = foreseen.peaks
    exact = find_merge(method).contract.granularity == "element"
    values = peak - (0 if exact else LIBRARIES)
    assert name == "cuda:0"
    assert total.peak <= values
    if threads == 1:  # several lanes need not be busy at the same time
        assert values <= 3 * total.peak + (1 << 20)


def foreseen(bench, shapes, method="average", *, sides=2, kind="F32", devices=None):
    """Foresee the merge of versions of which nobody has the values."""
    base, *rest = (
        bench.manifest(
            {
                name: Parameter(TensorSpec.of(kind, shape), Digest(f"{seed * 100 + number:064x}"))
                for number, (name, shape) in enumerate(shapes.items())
            }
        )
        for seed in range(sides + 1)
    )
    asked = plan(base, rest, Rules.only(method))
    return budget(asked, single_tasks(asked, {}), devices or [DeviceMemory.of("cuda:0", 99)])


def peak(*args, **kwargs):
    ((_, found),) = foreseen(*args, **kwargs).peaks
    return found


def test_what_is_merged_by_what_from_how_much(bench):
    found = foreseen(bench, {"a": (10, 3), "b": (7,)}, "ties", sides=3, kind="BF16")
    assert (found.parameters, found.reads, found.methods, found.spilled) == (2, 4 * 37 * 2, ("ties",), ())


def test_nothing_is_needed_where_nothing_is_computed(bench):
    found = foreseen(bench, {"a": (10, 3)}, "ours")
    assert (found.parameters, found.reads, found.methods) == (0, 0, ())
    assert found.peaks == (("cuda:0", 0),)


@pytest.mark.parametrize("name", ["cpu", "cuda:0"])
@pytest.mark.parametrize(("method", "matrix"), [("average", False), ("ties", False), ("della", False), ("slerp", True)])
def test_memory_grows_with_the_tensor_only_for_methods_of_matrices(bench, method, matrix, name):
    one, two = (
        peak(bench, {"a": (rows, 1 << 12)}, method, devices=[DeviceMemory.of(name, 4)]) for rows in (1 << 15, 1 << 16)
    )
    grown = two - one
    values = 3 * (1 << 15) * (1 << 12) * 4
    if matrix:
        assert grown > values
    elif name == "cuda:0":
        assert grown == 0
    else:  # the result is gathered whole, and so are rows of what does not stream
        assert grown <= 2 * values


def test_memory_does_not_grow_with_the_number_of_tensors(bench):
    shapes = {f"w{n}": (1 << 10, 1 << 12) for n in range(90)}
    for name in ("cpu", "cuda:0"):
        for method in ("ties", "slerp"):
            found = [
                peak(bench, dict(list(shapes.items())[:count]), method, devices=[DeviceMemory.of(name, 4)])
                for count in (40, 90)
            ]
            assert found[0] == found[1], (name, method)


def test_more_branches_and_wider_numbers_need_more(bench):
    shapes = {"a": (1 << 12, 1 << 12)}
    assert peak(bench, shapes, sides=2) < peak(bench, shapes, sides=3) < peak(bench, shapes, sides=3, kind="F64")
    assert peak(bench, shapes, kind="BF16") < peak(bench, shapes, kind="F32") + (1 << 20)


def test_lanes_that_nothing_is_merged_in_need_nothing(bench):
    piece = 1 << 22
    found = [peak(bench, {"a": (count * piece,)}) for count in (1, 2, LANES, 2 * LANES)]
    assert found == [found[0] * count for count in (1, 2, LANES, LANES)]


def test_a_device_holds_a_task_that_its_free_memory_is_enough_for(bench):
    (task,) = single_tasks(plan_of(bench, {"a": (300, 200)}, "slerp"), {})
    enough = need(DeviceMemory.of("cuda:0", 4), task)
    assert DeviceMemory.of("cuda:0", 4, enough).holds(task)
    assert not DeviceMemory.of("cuda:0", 4, enough - 1).holds(task)
    assert DeviceMemory.of("cpu", 4, 0).holds(task)
    found = foreseen(bench, {"a": (300, 200), "b": (2, 2)}, "slerp", devices=[DeviceMemory.of("cuda:0", 4, enough - 1)])
    assert found.spilled == ("a",)


def plan_of(bench, shapes, method):
    base, *rest = (bench.manifest({n: np.full(s, seed, np.float32) for n, s in shapes.items()}) for seed in range(3))
    return plan(base, rest, Rules.only(method))


@pytest.mark.parametrize("method", [name for name, each in CONTRACTS.items() if each.granularity == "pair"])
def test_loras_count_with_their_factors(bench, method):
    shapes = {"l.lora_A.weight": (8, 3000), "l.lora_B.weight": (2000, 8)}
    found = foreseen(bench, shapes, method)
    assert (found.parameters, found.reads, found.methods) == (2, 2 * 8 * 5000 * 4, (method,))
    assert found.peaks[0][1] > LIBRARIES + found.reads


def test_foreseeing_loads_no_torch():
    code = "import sys, git_theta_ext.merging.execution.memory; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
