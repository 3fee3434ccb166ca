"""The first pass over all changes finds the exact thresholds if a sample has told where to look."""

from types import SimpleNamespace

import numpy as np
import pytest

from git_theta_ext.coding import merge_kernels
from git_theta_ext.interfaces import dtype
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.execution.scheduler import DeviceScheduler
from git_theta_ext.merging.execution.tasks import single_tasks
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.merging.thresholds import search, windows
from git_theta_ext.merging.thresholds.scopes import MOST_TOGETHER, counted_together
from git_theta_ext.merging.thresholds.search import counting_here
from git_theta_ext.model.floats import from_float
from git_theta_ext.store.memory import MemoryStore

needs_compiled = pytest.mark.skipif(merge_kernels.compiled is None, reason="the package was built without a C compiler")
KINDS = {"BF16": "<u2", "F16": "<u2", "F32": "<u4"}


@pytest.fixture(autouse=True, params=[0, 1 << 14], ids=["one by one", "together"])
def small(request, monkeypatch):
    monkeypatch.setattr(search, "_SMALL", request.param)


@pytest.fixture(autouse=True)
def every_chunk_is_in_the_sample(monkeypatch):
    monkeypatch.setattr(windows, "_FEWEST", 1)
    monkeypatch.setattr(windows, "_STEP", 1)


class Passes(MemoryStore):
    """Counts how often all values are read."""

    def __init__(self, store):
        super().__init__(store.threads)
        self._store, self.passes = store, 0

    def read(self, digest, spec):
        return memoryview(self._store.read(digest, spec))

    def read_aligned(self, groups, work=None, *, numbers=None, **named):
        self.passes += numbers is None
        return super().read_aligned(groups, work, numbers=numbers, **named)


def versions(bench, kind, *, zeros=0.0, broken=False, shape=(40, 50)):
    """Return a base, and two sides of which one left a parameter alone and one has another alone."""
    rng = np.random.default_rng(3)
    base = {name: rng.standard_normal(shape) for name in "abcd"}
    sides = []
    for left in "ad":
        moves = {name: 0.01 * rng.standard_normal(shape) * (rng.random(shape) >= zeros) for name in base}
        sides.append({name: values + moves[name] * (name != left) for name, values in base.items()})
    if broken:
        sides[1]["b"][3, 4] = np.nan

    def stored(values):
        return {
            name: (kind, np.frombuffer(from_float(row.astype("f4"), dtype(kind)), KINDS[kind]).reshape(shape))
            for name, row in values.items()
        }

    return [bench.manifest(stored(values)) for values in (base, *sides)]


def found(bench, rows, density=0.2):
    """Return the thresholds and votes of a merge, and how often all values were read."""
    store = Passes(bench.store)
    asked = plan(rows[0], rows[1:], Rules.only("ties", {"density": density}))
    tasks = single_tasks(asked, {})
    scheduler = DeviceScheduler(Devices((Cpu(),)), 2)
    (selections,) = search.search(counting_here(store, scheduler, asked, [tasks]), asked, [tasks])
    trims = [selection.threshold(exact=True) for selection in selections]
    votes = [[s.votes(t, alone=alone) for alone in (False, True)] for s, t in zip(selections, trims, strict=True)]
    return (trims, votes), store.passes


def by_arrays(bench, rows, density=0.2):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge_kernels, "compiled", None)
        return found(bench, rows, density)


@needs_compiled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("density", "zeros"), [(0.2, 0.0), (0.9, 0.0), (1e-9, 0.0), (0.5, 0.9), (1.0, 0.3)])
def test_one_pass_finds_the_thresholds_of_two(bench, kind, density, zeros):
    rows = versions(bench, kind, zeros=zeros)
    expected, passes = by_arrays(bench, rows, density)
    assert passes == 2
    assert found(bench, rows, density) == (expected, 1)


@needs_compiled
@pytest.mark.parametrize("sampled", [True, False])
def test_large_tensors_are_counted_as_by_arrays(bench, sampled, monkeypatch):
    monkeypatch.setattr(windows, "_FEWEST", 1 if sampled else 1 << 30)
    rows = versions(bench, "BF16", zeros=0.1, shape=(300, 400))
    assert found(bench, rows) == (by_arrays(bench, rows)[0], 1 if sampled else 2)


@needs_compiled
@pytest.mark.parametrize("guess", [0, 0x2000, 0x7000])
def test_a_wrong_guess_costs_a_second_pass_and_nothing_else(bench, guess, monkeypatch):
    rows = versions(bench, "BF16")
    expected, _ = by_arrays(bench, rows)
    monkeypatch.setattr(windows, "_guess", lambda *_: guess)
    assert found(bench, rows) == (expected, 2)


@needs_compiled
def test_values_that_are_not_finite_are_counted_with_arrays(bench):
    rows = versions(bench, "F32", broken=True)
    assert found(bench, rows) == by_arrays(bench, rows)


@needs_compiled
@pytest.mark.parametrize(
    "change",
    [
        {"inputs": (bytes(8), bytes(6))},
        {"inputs": (bytes(8),)},
        {"kinds": bytes([0, 3])},
        {"kinds": bytes([3, 0])},
        {"kinds": bytes([0])},
        {"uppers": (bytearray(8),)},
        {"uppers": ()},
        {"windows": (bytearray(24),)},
        {"windows": (bytearray(32),) * 2},
        {"firsts": bytes(8)},
    ],
)
def test_buffers_of_wrong_sizes_are_refused(change):
    fits = {
        "inputs": (bytes(8), bytes(8)),
        "kinds": bytes(2),
        "uppers": (bytearray(8 << 16),),
        "windows": (bytearray(32),),
        "firsts": bytes(4),
    }
    assert merge_kernels.compiled.count(*fits.values()) == [True]
    with pytest.raises(ValueError, match="sizes"):
        merge_kernels.compiled.count(*{**fits, **change}.values())


def test_shares_of_layers_are_found_from_values_that_are_read_twice_in_all(bench):
    """Each layer's thresholds and votes are those that it has alone."""
    rows = versions(bench, "F32")
    shares = [0.1, 0.2, 0.2001, 0.5, 1.0]
    scopes = []
    for density in shares:
        asked = plan(rows[0], rows[1:], Rules.only("ties", {"density": density}))
        scopes.append(single_tasks(asked, {}))
    store = Passes(bench.store)
    together = search.search(counting_here(store, DeviceScheduler(Devices((Cpu(),)), 2), asked, scopes), asked, scopes)
    assert store.passes == 2
    for density, selections in zip(shares, together, strict=True):
        trims = [selection.threshold(exact=True) for selection in selections]
        votes = [[s.votes(t, alone=alone) for alone in (False, True)] for s, t in zip(selections, trims, strict=True)]
        assert (trims, votes) == by_arrays(bench, rows, density)[0]


def test_scopes_of_the_model_are_counted_together_and_others_apart():
    def tasks(scope, count):
        return [[SimpleNamespace(choice=Rules.only("ties", {"scope": scope}).defaults)] for _ in range(count)]

    whole, rules = tasks("model", MOST_TOGETHER + 2), tasks("rule", 2)
    assert counted_together([*whole, *rules]) == [
        [rules[0]],
        [rules[1]],
        whole[:MOST_TOGETHER],
        whole[MOST_TOGETHER:],
    ]
