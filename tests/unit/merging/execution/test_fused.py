"""The compiled kernel merges finite values to the bits of the arrays, and leaves all others to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.coding import merge_kernels
from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Trim
from git_theta_ext.interfaces.merges import ALL_EQUALS
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.execution import work
from git_theta_ext.merging.execution.tasks import Task
from git_theta_ext.merging.execution.work import SignElection, TensorMerge
from git_theta_ext.merging.rules.rules import choice
from git_theta_ext.model.floats import from_float
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import TensorSpec, tensor_digest

compiled = merge_kernels.compiled
needs_compiled = pytest.mark.skipif(compiled is None, reason="the package was built without a C compiler")

METHODS = [
    ("average", {}),
    ("task_arithmetic", {}),
    ("task_arithmetic", {"lambda": 0.3}),
    ("ties", {}),
    ("ties", {"majority": "count", "lambda": 0.7}),
    ("dare", {"density": 0.3}),
    ("dare", {"election": "ties", "seed": 3}),
]
WEIGHTS = [None, (1.0,) * 5, (0.3, 1.0, 0.0, 2.5, 1e6)]


def values(kind, rng, count):
    """Return the bytes of ordinary values, of a few different ones, of tiny ones, or of any bits at all."""
    way = rng.integers(4)
    if way == 3:
        return rng.bytes(count * kind.bits // 8)
    drawn = (rng.integers(-3, 4, count) / 8, rng.standard_normal(count), rng.standard_normal(count) * 2.0**-126)[way]
    return from_float(drawn * rng.choice([-1.0, 1.0], count), kind)  # also negative zeros


def task_of(kinds, count, method, options, weights):
    specs = [TensorSpec.of(kind, (count,)) for kind in kinds]
    sides = len(kinds) - 1
    members = [
        Parameter(spec, tensor_digest(spec, bytes(spec.nbytes - 1) + bytes([n]))) for n, spec in enumerate(specs)
    ]
    chosen = choice(method, options, () if weights is None else weights[:sides])
    base = members[0] if method != "average" else None
    return Task(("w",), chosen, base, tuple(members[1:]), tuple(range(sides)), ("a",) * sides, specs[1])


def merged(task, chunks, trims, majority, start, module):
    """Return how a piece is merged with a compiled module: its bytes, or why it cannot be used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge_kernels, "compiled", module)
        merge = TensorMerge(task, Cpu(), SignElection(trims if task.method.contract.trims else [], majority))
        merge._data = bytearray(task.spec.nbytes + start * task.spec.dtype.bits // 8)
        part = merge.merge(start, [memoryview(chunk) for chunk in chunks])
    return part if part.fault else (bytes(merge._data), part)


@needs_compiled
@given(
    data=st.data(),
    kinds=st.one_of(
        st.tuples(st.sampled_from(["BF16", "F16", "F32"]), st.integers(2, 5)).map(lambda some: [some[0]] * some[1]),
        st.lists(st.sampled_from(["BF16", "F16", "F32"]), min_size=3, max_size=6),
    ),
    method=st.sampled_from(METHODS),
    weights=st.sampled_from(WEIGHTS),
)
def test_the_kernel_gives_the_bits_of_the_arrays(data, kinds, method, weights):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    count = data.draw(st.sampled_from([1, 7, 511, 512, 1500]))
    start = data.draw(st.sampled_from([0, 1024]))
    if method[0] == "average" and weights is not None:
        weights = weights[: len(kinds) - 1]
    task = task_of(kinds, count, *method, weights)
    chunks = [values(member.spec.dtype, rng, count) for member in task.members]
    sizes = [0, 0x00000003, 0x3E000000, 0x3F000000, 0x7F800000]  # magnitudes: 0, subnormal, 1/8, 1/2, infinite
    trims = [Trim(int(rng.choice(sizes)), ALL_EQUALS) for _ in kinds[1:]]
    majority = data.draw(st.sampled_from([-1, 1]))
    try:
        expected = merged(task, chunks, trims, majority, start, None)
    except MergeError as error:
        with pytest.raises(MergeError, match=error.message):
            merged(task, chunks, trims, majority, start, compiled)
    else:
        assert merged(task, chunks, trims, majority, start, compiled) == expected


@needs_compiled
@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("kind", ["BF16", "F16", "F32"])
def test_finite_values_never_get_to_the_arrays(kind, method, monkeypatch):
    monkeypatch.setattr(work, "loaded", None)
    rng = np.random.default_rng(0)
    task = task_of([kind] * 4, 2000, *method, None)
    chunks = [from_float(rng.standard_normal(2000), member.spec.dtype) for member in task.members]
    data, part = merged(task, chunks, [Trim(0x3F000000, ALL_EQUALS)] * 3, 1, 0, compiled)
    assert any(data)
    assert not part.fault


@needs_compiled
@pytest.mark.parametrize("kind", ["BF16", "F16"])
def test_every_number_is_rounded_alike(kind):
    """Every float32 whose lower bits are at, or next to, those that decide how it is rounded."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    numbers = np.concatenate([upper | low for low in (0, 1, 0xFFF, 0x1000, 0x1001, 0x3000, 0x7FFF, 0x8000, 0x8001)])
    numbers = numbers[np.abs(numbers.view(np.float32)) <= 60000]  # neither NaN nor too large for F16
    task = task_of(["F32", "F32"], numbers.size, "average", {}, None)
    object.__setattr__(task, "spec", TensorSpec.of(kind, (numbers.size,)))
    one, other = (merged(task, [numbers.tobytes()], [], 1, 0, module) for module in (compiled, None))
    assert one == other


@needs_compiled
def test_two_bf16_numbers_of_any_exponents_have_the_mean_of_the_arrays():
    edges = np.array([0, 1, 2, 3, 0x40, 0x55, 0x7E, 0x7F], "<u2")  # mantissas
    exponents = np.arange(0, 255, dtype="<u2") << 7  # all that are finite
    numbers = np.unique(np.concatenate([exponents[:, None] | edges, (exponents[:, None] | edges) | 0x8000]))
    ours = np.repeat(numbers[:: numbers.size // 199], numbers.size)
    theirs = np.tile(numbers, ours.size // numbers.size)
    task = task_of(["BF16"] * 3, ours.size, "average", {}, None)
    one, other = (merged(task, [ours.tobytes(), theirs.tobytes()], [], 1, 0, module) for module in (compiled, None))
    assert one == other


@needs_compiled
@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0xFFFF])
@pytest.mark.parametrize("member", [0, 1])
def test_a_mean_of_two_with_a_number_that_is_not_finite_is_an_error(bits, member):
    values = [np.full(1000, 0x3F80, "<u2") for _ in range(2)]
    values[member][777] = bits
    task = task_of(["BF16"] * 3, 1000, "average", {}, None)
    part = merged(task, [value.tobytes() for value in values], [], 1, 0, compiled)
    assert "NaN or infinite" in part.fault


@needs_compiled
@pytest.mark.parametrize("change", ["short", "kinds", "trims", "keys", "none", "tensors", "room", "many", "text"])
def test_buffers_of_wrong_sizes_are_refused(change):
    chunks: tuple = (bytes(8),) * 3
    kinds, trims, keys, weights, rooms = bytes(3), bytes(8), bytes(16), bytes(16), (bytearray(8),)
    assert compiled.merge(chunks, kinds, rooms, 0, 1, weights, trims, keys, 0, 0.5, 1.0, 1.0, 1) == [(0, 0)]
    if change == "short":
        chunks = (bytes(8), bytes(6), bytes(8))
    elif change == "kinds":
        kinds = bytes([0, 3, 0])
    elif change == "trims":
        trims = bytes(4)
    elif change == "keys":
        keys = bytes(8)
    elif change == "none":
        chunks, kinds, weights = (), b"", b""
    elif change == "tensors":
        rooms, keys = (bytearray(8),) * 2, bytes(32)
    elif change == "room":
        rooms = (bytes(8),)
    elif change == "many":
        chunks, kinds, weights, trims, keys = (bytes(8),) * 70, bytes(70), bytes(8 * 69), b"", b""
    else:
        chunks = (bytes(8), "text", bytes(8))
    with pytest.raises((ValueError, TypeError, BufferError)):
        compiled.merge(chunks, kinds, rooms, 0, 1, weights, trims, keys, 0, 0.5, 1.0, 1.0, 1)
