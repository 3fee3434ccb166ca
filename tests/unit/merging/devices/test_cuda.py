"""What can be known of CUDA devices without one: their slabs are used in time, and give the processor's bits.

Streams and events are stand-ins here, and device memory is the processor's. Copies that do not block are put off as
long as the real ones may be: until somebody waits for an event behind them.
"""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from emulation import Event, emulate
from torch.utils._python_dispatch import TorchDispatchMode

from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.devices import cuda
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.cuda import LANES
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.devices.numbers import TORCH
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.registry import find_merge

MATRICES, ELEMENTS = ([find_merge(name).contract] for name in ("iso_c", "ties"))
LANE = cuda._Lane
VIEWS = {"view", "split", "slice", "select", "unbind", "alias", "as_strided", "detach", "empty", "_to_copy"}


class Later(TorchDispatchMode):
    """Puts copies between slabs and the device off, and tells when the host touches a slab that one still needs."""

    def __init__(self, slabs):
        super().__init__()
        self.slabs, self.waiting, self.early = slabs.untyped_storage().data_ptr(), [], []

    def is_slab(self, tensor):
        return tensor.untyped_storage().data_ptr() == self.slabs

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name == "copy_":
            target, source, *blocking = args
            slab = next((each for each in (target, source) if self.is_slab(each)), None)
            if slab is not None and ((blocking and blocking[0]) or (kwargs or {}).get("non_blocking")):
                self.waiting.append((slab, partial(func, target, source)))
                return target
            if slab is not None:
                self.early += [slab for used, _ in self.waiting if overlap(used, slab)]
                return func(*args, **(kwargs or {}))
        if name not in VIEWS or (name == "_to_copy" and not self.is_slab(args[0])):
            self.go_on(len(self.waiting))
        return func(*args, **(kwargs or {}))

    def go_on(self, count):
        done, self.waiting = self.waiting[:count], self.waiting[count:]
        for _, copy in done:
            copy()


def overlap(one, other):
    starts = [each.storage_offset() for each in (one, other)]
    return starts[0] < starts[1] + other.numel() and starts[1] < starts[0] + one.numel()


@pytest.fixture(params=[64])
def emulated(request, monkeypatch):
    return emulate(monkeypatch, request.param)


def drawn(kind, elements):
    values = np.random.default_rng(elements).integers(0, 120, elements)
    rounded = torch.empty(elements, dtype=getattr(torch, TORCH[kind])).copy_(torch.from_numpy(values))
    return bytearray(rounded.view(torch.uint8).numpy().tobytes())


@pytest.mark.parametrize("elements", [0, 1, 8, 16, 17, 64, 1000])
@pytest.mark.parametrize("kind", ["BF16", "F32", "F64", "C64", "F8_E4M3", "I16", "BOOL"])
def test_no_slab_is_touched_before_its_copy_is_done(emulated, monkeypatch, kind, elements):
    data = drawn(kind, elements)
    with emulated.lane() as lane:
        slabs = lane._slabs[0].room
    later = Later(slabs)
    monkeypatch.setattr(Event, "mode", later)
    room = bytearray(len(data))
    with emulated.lane() as lane, later:
        for _ in range(2):
            values = lane.load(data, dtype(kind), wide=kind == "F64")
            expected = torch.from_numpy(Cpu().load(data, dtype(kind), wide=kind == "F64"))
            assert torch.equal(values * 1, expected)
            lane.save(values, dtype(kind), room)
            assert later.early == []
            assert later.waiting == []
            assert bytes(room) == data


def test_the_stand_in_tells_when_a_slab_is_touched_too_early(emulated, monkeypatch):
    data = drawn("F32", 1000)
    with emulated.lane() as lane:
        later = Later(lane._slabs[0].room)
        monkeypatch.setattr(Event, "mode", later)
        monkeypatch.setattr(Event, "synchronize", lambda self: None)
        with later:
            lane.load(data, dtype("F32"), wide=False)
    assert later.early


@pytest.mark.parametrize("emulated", [1 << 18], indirect=True)
@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("method", ["average", "ties", "dare", "della", "slerp"])
def test_a_merge_in_lanes_has_the_bits_of_one_on_the_processor(bench, emulated, method, kind):
    rng = np.random.default_rng(5)
    shapes = {"a": (3000, 700), "b": (7,), "c": (), "d": (2, 3, 5)}
    base, one, two = ({name: rng.normal(size=shape).astype(kind) for name, shape in shapes.items()} for _ in range(3))
    rows = [bench.manifest(row) for row in (base, one, two)]
    merged = [
        apply(plan(rows[0], rows[1:], Rules.only(method)), bench.store, lambda d=d: Engine(bench.store, Devices((d,))))
        for d in (Cpu(), emulated)
    ]
    assert merged[0].conflicts == 0
    assert merged[0].manifest == merged[1].manifest
    assert len(emulated._idle.queue) == LANES


def test_a_lane_is_one_threads_at_a_time_and_comes_back_after_errors(emulated):
    used, most, lock, met = set(), [], threading.Lock(), threading.Event()

    def work():
        with emulated.lane() as lane:
            with lock:
                assert id(lane) not in used
                used.add(id(lane))
                most.append(len(used))
                if len(used) > 1:
                    met.set()
            assert met.wait(60)
            with lock:
                used.remove(id(lane))
            raise ValueError

    with ThreadPoolExecutor(2 * LANES) as executor:
        done = [executor.submit(work) for _ in range(20 * LANES)]
    assert {type(each.exception()) for each in done} == {ValueError}
    assert 1 < max(most) <= LANES
    assert len(emulated._idle.queue) == LANES


def test_the_tensors_of_a_lane_are_gone_when_another_thread_gets_it(bench, monkeypatch):
    device, load, made, left = emulate(monkeypatch, 1 << 18), LANE.load, [], []
    lane = device.lane

    def noted(self, *args, **kwargs):
        values = load(self, *args, **kwargs)
        made.append(weakref.ref(values))
        return values

    monkeypatch.setattr(LANE, "load", noted)

    @contextmanager
    def watched():
        with lane() as inner:
            yield inner
        left.append(sum(values() is not None for values in made))

    monkeypatch.setattr(device, "lane", watched)
    bench.store.threads = 1
    rows = [bench.manifest({"a": np.full((300, 200), seed, np.float32)}) for seed in range(3)]
    for method in ("average", "ties", "slerp"):
        merged = apply(
            plan(rows[0], rows[1:], Rules.only(method)), bench.store, lambda: Engine(bench.store, Devices((device,)))
        )
        assert merged.conflicts == 0
    assert len(made) > len(left) > 3
    assert set(left) == {0}


def test_the_tensors_of_a_piece_that_cannot_be_merged_are_gone_with_the_lane(emulated):
    made = []

    def merge(lane):
        values = lane.load(bytearray(8), dtype("F32"), wide=False)
        made.append(weakref.ref(values))
        raise ValueError(values.numel())

    with pytest.raises(ValueError, match="2") as caught, emulated.lane() as lane:
        merge(lane)
    assert caught.tb is not None, "the error is still here"
    assert made[0]() is None


def test_a_single_number_without_a_stride_is_saved(emulated):
    room = bytearray(4)
    with emulated.lane() as lane:
        lane.save(torch.ones(()).expand(1).as_strided((1,), (0,)), dtype("F32"), room)
    assert bytes(room) == np.float32(1).tobytes()


def test_memory_that_torch_keeps_for_itself_counts_as_free(emulated):
    assert emulated.free() == (1 << 30) + 100
