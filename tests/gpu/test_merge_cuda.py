"""Merges on a CUDA device have the processor's bits where methods promise that, and keep to the memory foreseen."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from helpers import ATTENTION, EMBEDDING, MODEL, model  # noqa: E402

from git_theta_ext.errors import ConfigError, MergeError  # noqa: E402
from git_theta_ext.interfaces import Pair  # noqa: E402
from git_theta_ext.merging.devices import cuda  # noqa: E402
from git_theta_ext.merging.devices.cpu import Cpu  # noqa: E402
from git_theta_ext.merging.devices.cuda import LANES, SPAN, Cuda  # noqa: E402
from git_theta_ext.merging.devices.device import Devices  # noqa: E402
from git_theta_ext.merging.devices.numbers import TORCH  # noqa: E402
from git_theta_ext.merging.devices.open import device_names, open_devices  # noqa: E402
from git_theta_ext.merging.execution.engine import Engine  # noqa: E402
from git_theta_ext.merging.planning.plan import plan  # noqa: E402
from git_theta_ext.merging.rules.rules import Rules  # noqa: E402
from git_theta_ext.model.dtypes import dtype  # noqa: E402
from git_theta_ext.model.floats import from_float  # noqa: E402
from git_theta_ext.model.manifest import Manifest, Skeleton  # noqa: E402
from git_theta_ext.model.tensor import TensorSpec  # noqa: E402
from git_theta_ext.registry import built_in, find_merge, find_pair  # noqa: E402
from git_theta_ext.store.memory import MemoryStore  # noqa: E402
from git_theta_ext.testing.merges import drawn  # noqa: E402

PAIRS = [name for name in built_in("merges") if find_merge(name).contract.granularity == "pair"]
SINGLE = [name for name in built_in("merges") if name not in PAIRS]
EXACT = [name for name in SINGLE if find_merge(name).contract.exact]
STORED = [name for name in SINGLE if not find_merge(name).contract.sidecars]
FLOATS = ["BF16", "F16", "F32", "F64"]
ALL_FLOATS = [*FLOATS, "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]
MATRICES, ELEMENTS = ([find_merge(name).contract] for name in ("iso_c", "ties"))
PIECE = SPAN << 19
# Relative to the largest change that a merge made; docs/merging.md promises it of matrices of full rank.
FLOAT32, FLOAT64 = 2.0**-20, 1e-9
_NO_LAYOUT = Skeleton.of(b"")


@pytest.fixture
def device():
    opened = Cuda("cuda:0")
    yield opened
    del opened
    torch.cuda.empty_cache()


def moved(piece, where):
    def to(tensors):
        return tuple(tensor.to(where) for tensor in tensors)

    base = None if piece.base is None else piece.base.to(where)
    sidecars = {kind: to(found) for kind, found in piece.sidecars.items()}
    return replace(piece, base=base, branches=to(piece.branches), sidecars=sidecars)


def value(found):
    return getattr(found, "value", found)


def words(contract):
    found = {name: option.choices for name, option in contract.options.items() if option.choices}
    return [{}, *({name: word} for name, choices in found.items() for word in choices)]


def pieces(method, shape, kind):
    contract = method.contract
    for count in sorted({min(n, contract.branches[1]) for n in (2, 3, 5)}):
        piece = drawn(contract, shape, count)
        given = {"base": None if piece.base is None else piece.base.to(kind)}
        given["branches"] = tuple(branch.to(kind) for branch in piece.branches)
        given["sidecars"] = {name: tuple(each.to(kind) for each in all_) for name, all_ in piece.sidecars.items()}
        for chosen in words(contract):
            yield replace(piece, options={**piece.options, **chosen}, **given)
        if contract.weighted:
            yield replace(piece, weights=tuple(0.3 + n / 7 for n in range(count)), **given)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (100_003,), (300, 70), (70, 300), (6, 5, 40)], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_exact_methods_have_the_processors_bits(name, shape, kind):
    method = find_merge(name)
    for piece in pieces(method, shape, kind):
        here, there = method(piece), method(moved(piece, "cuda"))
        assert value(here).numpy().tobytes() == value(there).cpu().numpy().tobytes()
        for what in ("votes", "ties"):
            assert int(getattr(here, what, 0)) == int(getattr(there, what, 0))


@pytest.mark.parametrize(("kind", "bound"), [(torch.float32, FLOAT32), (torch.float64, FLOAT64)], ids=str)
@pytest.mark.parametrize("shape", [(256, 100), (100, 256), (200, 200), (30, 4, 5)], ids=str)
@pytest.mark.parametrize("name", sorted(set(SINGLE) - set(EXACT)))
def test_other_methods_differ_by_rounding_alone(name, shape, kind, bound):
    method = find_merge(name)
    for piece in pieces(method, shape, kind):
        here, there = method(piece), method(moved(piece, "cuda")).cpu()
        start = piece.branches[0] if piece.base is None else piece.base
        assert float((here - there).abs().max()) <= bound * float((here - start).abs().max())


@pytest.mark.parametrize("name", PAIRS)
def test_loras_have_the_processors_products(name):
    method = find_pair(name)
    generator = torch.Generator().manual_seed(1)
    drawn_pairs = [
        Pair(torch.randn((8, 300), generator=generator), torch.randn((200, 8), generator=generator), 2.0)
        for _ in range(3)
    ]
    options = {name: option.default for name, option in method.contract.options.items()}
    here, lost = method(drawn_pairs, [1.0, 0.5, 2.0], options)
    there, gone = method([Pair(p.a.cuda(), p.b.cuda(), p.scale) for p in drawn_pairs], [1.0, 0.5, 2.0], options)
    product, other = here.b @ here.a, there.b.cpu() @ there.a.cpu()
    assert float((product - other).abs().max()) <= 1e-5 * float(product.abs().max())
    assert abs(lost - gone) < 1e-9


def bits(kind, elements, seed):
    """Return finite values of many magnitudes, subnormal ones among them, as an element type's bytes."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, elements) * 10.0 ** rng.integers(-6, 1, elements)
    return bytearray(from_float(values.astype(np.float64 if kind == "F64" else np.float32), dtype(kind)))


@pytest.mark.parametrize("elements", [0, 1, 2, 1023, (1 << 21) - 1, (1 << 22) + 1, 9_000_001])
@pytest.mark.parametrize("kind", [*ALL_FLOATS, "C64", "C128", "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "I64"])
def test_values_go_there_and_come_back_unchanged(device, kind, elements):
    if elements > 1 << 22 and dtype(kind).bits > 64:
        pytest.skip("takes long and is the same code")
    if dtype(kind).kind in ("float", "complex"):
        data = bits(kind, elements, 1)
    else:
        most = 2 if kind == "BOOL" else 256
        data = bytearray(np.random.default_rng(1).integers(0, most, elements * dtype(kind).bits // 8).astype(np.uint8))
    wide = kind in {"F64", "C128"}
    room = bytearray(len(data))
    for _ in range(2):  # through slabs that were used before
        with device.lane() as lane:
            there = lane.load(data, dtype(kind), wide=wide)
            assert torch.equal(there.cpu(), torch.from_numpy(Cpu().load(data, dtype(kind), wide=wide)))
            lane.save(there, dtype(kind), room)
        assert room == data


@pytest.mark.parametrize("kind", ALL_FLOATS)
@pytest.mark.parametrize("wide", [False, True])
def test_numbers_are_rounded_as_on_the_processor(device, kind, wide):
    # Every pattern of the upper half of a float32, with lower halves around the middle; without NaN and infinities.
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    patterns = np.concatenate([upper | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    single = patterns[(patterns & 0x7F800000) != 0x7F800000].view(np.float32)
    numbers = torch.from_numpy(single.astype(np.float64) * (1 + 1e-9) if wide else single.copy())
    rooms = [bytearray(numbers.numel() * dtype(kind).bits // 8) for _ in range(2)]
    Cpu().save(numbers.numpy(), dtype(kind), rooms[0])
    with device.lane() as lane:
        lane.save(numbers.cuda(), dtype(kind), rooms[1])
    assert rooms[0] == rooms[1]


def versions(memory, kind, shapes, sides=2):
    return [
        Manifest(
            "safetensors",
            _NO_LAYOUT,
            {
                name: memory.add(TensorSpec.of(kind, shape), bits(kind, int(np.prod(shape)), [seed, number]))
                for number, (name, shape) in enumerate(shapes.items())
            },
        )
        for seed in range(sides + 1)
    ]


def computed(memory, rows, devices, method, options=None, announced=None):
    results = MemoryStore()
    announce = None if announced is None else announced.append
    engine = Engine(memory, devices, results=results, announce=announce)
    found = engine.compute(plan(rows[0], rows[1:], Rules.only(method, options or {})))
    assert found.failed == {}
    return {name: bytes(results.read(p.digest, p.spec)) for name, p in found.values.items()}, found.notes


SHAPES = {"a": (PIECE + 3,), "b": (2100, 1000), "c": (), "d": (7,), "e": ((1 << 19) + 1,), "f": (5, 4, 3)}
SMALL = {"a": (300, 200), "b": (70,), "c": (40, 90)}


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("name", [name for name in EXACT if name in STORED])
def test_merges_of_stored_tensors_have_the_processors_bits(device, name, kind):
    memory = MemoryStore()
    shapes = SMALL if find_merge(name).contract.granularity == "matrix" else SHAPES
    rows = versions(memory, kind, shapes)
    assert computed(memory, rows, Devices((device,)), name) == computed(memory, rows, Devices((Cpu(),)), name)


@pytest.mark.parametrize("options", [{}, {"scope": "tensor"}, {"ties": "exact"}, {"density": 1.0, "majority": "count"}])
@pytest.mark.parametrize("kind", ["BF16", "F32"])
def test_ties_over_a_model_has_the_processors_bits(device, kind, options):
    memory = MemoryStore()
    rows = versions(memory, kind, SHAPES, sides=3)
    found = computed(memory, rows, Devices((device,)), "ties", options)
    assert found == computed(memory, rows, Devices((Cpu(),)), "ties", options)


@pytest.mark.parametrize("span", [1, 2, 3])
def test_pieces_may_have_any_size(device, monkeypatch, span):
    monkeypatch.setattr(device, "span", span)
    memory = MemoryStore(5)
    rows = versions(memory, "BF16", SHAPES)
    for name in ("average", "ties", "dare"):
        assert computed(memory, rows, Devices((device,)), name) == computed(memory, rows, Devices((Cpu(),)), name)


@pytest.mark.parametrize("kind", ["BF16", "F32", "F64"])
@pytest.mark.parametrize("name", STORED)
def test_no_more_memory_is_taken_than_was_foreseen(device, monkeypatch, name, kind):
    monkeypatch.setattr(cuda, "SPAN", 2)
    monkeypatch.setattr(device, "span", 2)
    memory, announced = MemoryStore(LANES + 2), []
    large = find_merge(name).contract.granularity == "element"
    rows = versions(memory, kind, {"a": (7 << 20, 1), "b": (1 << 20,)} if large else SMALL | {"d": (1500, 800)})
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    computed(memory, rows, Devices((device,)), name, announced=announced)
    ((where, peak),) = announced[0].peaks
    assert where == "cuda:0"
    assert torch.cuda.max_memory_allocated() - before <= peak


def test_a_lack_of_memory_is_reported_or_made_up_for_by_the_processor(device, monkeypatch):
    memory = MemoryStore()
    rows = versions(memory, "F32", {"a": (1000, 1000), "b": (10, 10)})
    expected, _ = computed(memory, rows, Devices((Cpu(),)), "slerp")
    monkeypatch.setattr(device, "free", lambda: 70 << 20)
    with pytest.raises(MergeError, match="'a' needs"):
        computed(memory, rows, Devices((device,)), "slerp")
    found, notes = computed(memory, rows, Devices((device,), Cpu()), "slerp")
    assert found == expected
    assert "'a' needs" in notes[0]


@pytest.mark.parametrize("name", ["average", "slerp", "ties"])
def test_what_the_device_runs_out_of_memory_over_is_merged_on_the_processor(device, name):
    memory = MemoryStore()
    rows = versions(memory, "F32", {"a": (4000, 3000), "b": (10, 10)})
    expected, _ = computed(memory, rows, Devices((Cpu(),)), name)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((32 << 20) / torch.cuda.get_device_properties(0).total_memory)
    try:
        found, notes = computed(memory, rows, Devices((device,)), name)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found == expected
    assert notes[0].startswith("cuda:0 ran out of memory: merged 'a'")
    again, notes = computed(memory, rows, Devices((device,)), name)
    assert (again, notes) == (expected, [])


def test_devices_by_name():
    count = torch.cuda.device_count()
    every = tuple(f"cuda:{number}" for number in range(count))
    assert device_names("auto", MATRICES) == device_names("cuda", MATRICES) == device_names("cuda", ELEMENTS) == every
    assert device_names("auto", ELEMENTS) == ("cpu",)
    assert device_names(every[-1], ELEMENTS) == every[-1:]
    assert device_names("cpu", MATRICES) == ("cpu",)
    automatic = open_devices("auto", MATRICES)
    assert [each.name for each in automatic.used] == list(every)
    assert automatic.notes == ()
    assert isinstance(automatic.spare, Cpu)
    assert open_devices("cuda", ELEMENTS).spare is None
    with pytest.raises(ConfigError, match="no such device"):
        open_devices(f"cuda:{count}", MATRICES)


def test_auto_merges_elementwise_on_the_processor_and_matrices_on_the_device():
    memory = MemoryStore()
    rows = versions(memory, "F32", SMALL)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    devices = open_devices("auto", MATRICES)
    assert computed(memory, rows, devices, "ties") == computed(memory, rows, Devices((Cpu(),)), "ties")
    assert torch.cuda.max_memory_allocated() - before <= 1 << 20, "only what trying the device takes"
    computed(memory, rows, devices, "iso_c")
    assert torch.cuda.max_memory_allocated() - before > 1 << 20


def test_all_devices_share_a_merge():
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device")
    memory = MemoryStore()
    rows = versions(memory, "BF16", {f"w{n}": (1200, 1000 + n) for n in range(8)})
    devices = open_devices("cuda", ELEMENTS)
    for name in ("average", "ties", "slerp"):
        for number in range(len(devices.used)):
            torch.cuda.reset_peak_memory_stats(number)
        assert computed(memory, rows, devices, name) == computed(memory, rows, Devices((Cpu(),)), name)
        assert all(torch.cuda.max_memory_allocated(number) > 0 for number in range(len(devices.used)))


def test_nothing_is_allocated_on_a_device_that_was_not_asked_for():
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(0)
    memory = MemoryStore()
    computed(memory, versions(memory, "BF16", SMALL), open_devices("cuda:1", ELEMENTS), "ties")
    assert torch.cuda.max_memory_allocated(0) == torch.cuda.memory_allocated(0)


def test_pinned_memory_is_taken_once(device, monkeypatch):
    def refuse(*shape):
        raise AssertionError("pinned memory is taken anew")

    monkeypatch.setattr(cuda, "_pinned", refuse)
    memory = MemoryStore()
    rows = versions(memory, "F32", {"a": (5000, 1000)})
    for name in ("average", "slerp"):
        computed(memory, rows, Devices((device,)), name)


@pytest.mark.parametrize("method", ["average", "ties", "slerp"])
def test_git_merge_on_the_device_writes_the_processors_file(repo, method):
    for branch, seed in (("main", None), ("side", 3), ("main", 2)):
        if seed == 3:
            repo.git("checkout", "--quiet", "-b", "side")
        repo.git("checkout", "--quiet", branch)
        repo.write(model(1, {} if seed is None else {EMBEDDING: seed, ATTENTION[0]: seed}))
        repo.commit(branch)
    files = []
    for name in ("cpu", "cuda:0"):
        config = ("-c", f"theta.merge.device={name}", "-c", f"theta.merge.method={method}")
        done = repo.run(*config, "merge", "--quiet", "-m", "merged", "side")
        assert f"by {method} on {name}, at most" in done.stderr
        assert repo.problems(MODEL, repo.read()) == []
        files.append(repo.read())
        repo.git("reset", "--quiet", "--hard", "HEAD~1")
    assert files[0] == files[1]


def test_every_type_that_is_merged_has_a_tensor_type():
    assert all(hasattr(torch, name) for name in TORCH.values())
