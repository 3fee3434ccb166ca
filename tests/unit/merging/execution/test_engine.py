"""Values are read, cut, computed, checked, rounded and stored, whatever the method."""

import sys
import types
import warnings
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch

from git_theta_ext.errors import PluginError
from git_theta_ext.interfaces import MergeContract, Option
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.execution import tasks
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.execution.journal import Journal
from git_theta_ext.merging.execution.stream import run
from git_theta_ext.merging.execution.work import SignElection
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.merging.thresholds import histograms, search
from git_theta_ext.merging.thresholds.radix_select import counts_in
from git_theta_ext.model.floats import from_float, to_float
from git_theta_ext.model.tensor import TensorSpec, tensor_digest

NUMBERS = count()

pytestmark = pytest.mark.usefixtures("composing")


class Method:
    """A method from a function, noting the pieces it is called with."""

    def __init__(self, name, function, **contract):
        self.name = name
        self.contract = MergeContract(**{"needs_base": False, "symmetric": False} | contract)
        self.function = function
        self.pieces = []

    def __call__(self, piece):
        self.pieces.append(piece)
        return self.function(piece)


@pytest.fixture
def probe(monkeypatch):
    """Return a function that registers a method made from a function."""

    def register(function, **contract):
        name = f"probe{next(NUMBERS)}"
        module = types.ModuleType(name)
        module.METHOD = Method(name, function, **contract)
        monkeypatch.setitem(sys.modules, f"git_theta_plugins.merges.{name}", module)
        return module.METHOD

    return register


def raw(kind, values):
    """Return values of an element type as the bench takes them."""
    array = np.asarray(values, np.float32)
    data = from_float(array, TensorSpec.of(kind, ()).dtype)
    width = TensorSpec.of(kind, ()).dtype.bits // 8
    return kind, np.frombuffer(data, f"V{width}").reshape(array.shape)


def outcome_of(bench, base, *branches, method="average", options=None, start=None):
    """Merge branches' values of one parameter, or of several by name."""
    rows = [row if isinstance(row, dict) else {"w": row} for row in (base, *branches)]
    before, *sides = (bench.manifest(row) for row in rows)
    return apply(plan(before, sides, Rules.only(method, options or {})), bench.store, start)


def merged(bench, base, *branches, name="w", **asked):
    outcome = outcome_of(bench, base, *branches, **asked)
    assert outcome.manifest.conflicts == ()
    parameter = outcome.manifest.parameters[name]
    return to_float(bench.store.read(parameter.digest, parameter.spec), parameter.spec.dtype)


def reason(bench, base, *branches, **asked):
    (conflict,) = outcome_of(bench, base, *branches, **asked).manifest.conflicts
    return conflict.reason.text


def test_values_come_back_in_our_type(bench):
    found = outcome_of(bench, raw("BF16", [0, 0]), raw("BF16", [1, 2]), raw("F32", [3, 4]))
    assert found.manifest.parameters["w"].spec == TensorSpec.of("BF16", (2,))
    assert merged(bench, raw("BF16", [0, 0]), raw("BF16", [1, 2]), raw("F32", [3, 4])).tolist() == [2, 3]


def test_elementwise_methods_get_flat_pieces_no_longer_than_a_chunk(bench, probe):
    method = probe(lambda piece: piece.branches[0] + piece.branches[1])
    elements = (1 << 19) + 5
    one = np.arange(2 * elements, dtype=np.float32).reshape(2, elements)
    assert np.array_equal(merged(bench, one * 0, one, one + 1, method=method.name), (2 * one + 1).reshape(-1))
    pieces = {piece.start: tuple(piece.branches[0].shape) for piece in method.pieces}
    assert pieces == {0: (1 << 19,), 1 << 19: (1 << 19,), 1 << 20: (10,)}


def test_methods_of_matrices_get_the_tensor_as_it_is(bench, probe):
    method = probe(lambda piece: piece.branches[0].clone(), granularity="matrix")
    merged(bench, np.zeros((2, 5)), np.ones((2, 5)), np.full((2, 5), 2.0), method=method.name)
    assert [tuple(piece.branches[0].shape) for piece in method.pieces] == [(2, 5)]


def test_methods_of_rows_get_whole_rows(bench, probe, monkeypatch):
    monkeypatch.setattr(tasks, "ROW_ELEMENTS", 10)
    method = probe(lambda piece: piece.branches[0] * 2, granularity="row")
    one = np.arange(35, dtype=np.float32).reshape(7, 5)
    assert np.array_equal(merged(bench, one * 0, one, one + 1, method=method.name), 2 * one.reshape(-1))
    assert [(tuple(piece.branches[0].shape), piece.start) for piece in method.pieces] == [
        ((2, 5), 0),
        ((2, 5), 10),
        ((2, 5), 20),
        ((1, 5), 30),
    ]


@pytest.mark.parametrize("side", [3, 5, 9])
def test_statistics_of_other_shapes_than_the_weight_reach_the_method_whole(bench, probe, side):
    method = probe(lambda piece: piece.branches[0] * 1, granularity="matrix", sidecars=("gram",))
    base, one, two = (np.full((5, 2), value, np.float32) for value in (0, 1, 2))
    grams = [np.arange(side * side, dtype=np.float32).reshape(side, side) + number for number in range(2)]
    statistics = {number: {"gram/w": bench.parameter(gram)} for number, gram in enumerate(grams)}
    start = partial(Engine, bench.store, statistics=statistics)
    assert outcome_of(bench, base, one, two, method=method.name, start=start).manifest.conflicts == ()
    assert [gram.tolist() for gram in method.pieces[0].sidecars["gram"]] == [gram.tolist() for gram in grams]


def test_base_options_and_name_reach_the_method(bench, probe):
    method = probe(
        lambda piece: piece.base + piece.options["scale"] * sum(b - piece.base for b in piece.branches),
        needs_base=True,
        options={"scale": Option(0.5)},
    )
    assert merged(bench, [1, 1], [3, 1], [1, 5], method=method.name).tolist() == [2, 3]
    assert merged(bench, [1, 1], [3, 1], [1, 5], method=method.name, options={"scale": "2"}).tolist() == [5, 9]
    assert {piece.name for piece in method.pieces} == {"w"}


def test_only_the_branches_that_changed_a_parameter_are_merged(bench):
    base, one, two = [0.0, 0.0], [2.0, 4.0], [6.0, 8.0]
    assert merged(bench, base, base, one, two, base).tolist() == [4, 6]


def test_equal_changes_count_as_often_as_they_were_made(bench):
    assert merged(bench, [0.0], [3.0], [3.0], [9.0]).tolist() == [5]


def test_sixty_four_bit_floats_keep_their_precision(bench):
    one, two = (np.array([value]) for value in (1 + 2**-40, 1.0 + 2**-39))
    assert merged(bench, np.array([0.0]), one, two).tolist() == [(one[0] + two[0]) / 2]


def test_complex_values_are_merged_by_components(bench):
    rows = (np.array(v, np.complex64) for v in ([0, 0], [1 + 2j, 0], [3 - 4j, 2]))
    assert merged(bench, *rows).tolist() == [2, -1, 1, 0]


@pytest.mark.parametrize("shape", [(), (3, 0, 2)])
@pytest.mark.parametrize("granularity", ["element", "row", "matrix"])
def test_scalars_and_empty_tensors_are_merged(bench, probe, shape, granularity):
    method = probe(lambda piece: (piece.branches[0] + piece.branches[1]) / 2, granularity=granularity)
    base, one, two = (np.full(shape, value) for value in (7.0, 1.0, 0.0))
    sides = {"w": one, "v": [1.0]}, {"w": two, "v": [2.0]}
    found = outcome_of(bench, {"w": base, "v": [0.0]}, *sides, method=method.name)
    assert found.conflicts == 0
    assert bench.values(found.manifest.parameters["w"], np.float64) == np.full(shape, 0.5).tolist()


@pytest.mark.parametrize("granularity", ["element", "matrix"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_side(bench, probe, bad, granularity):
    method = probe(lambda piece: piece.branches[0] * 1, granularity=granularity)
    assert "theirs has NaN or infinite" in reason(bench, [0.0, 0.0], [1.0, 2.0], [1.0, bad], method=method.name)


@pytest.mark.parametrize("kind", ["F16", "F8_E4M3", "F8_E5M2", "BF16"])
def test_a_result_too_large_for_our_type_is_refused(bench, probe, kind):
    method = probe(lambda piece: piece.branches[1] * 1)
    assert kind in reason(bench, raw(kind, [0]), raw(kind, [1]), [3.4e38], method=method.name)


def test_a_result_that_is_not_finite_is_refused(bench, probe):
    method = probe(lambda piece: piece.branches[1] / 0)
    assert "does not fit" in reason(bench, [0.0], [1.0], [2.0], method=method.name)


@pytest.mark.parametrize(
    "function", [lambda piece: piece.branches[0][:1], lambda piece: piece.branches[0].to(torch.float16)]
)
def test_a_method_that_breaks_its_contract_is_named(bench, probe, function):
    with pytest.raises(PluginError, match="probe"):
        outcome_of(bench, [0, 0], [1, 2], [3, 4], method=probe(function).name)


def test_what_cannot_be_merged_does_not_keep_the_rest_from_being_merged(bench):
    values = {"a": [1.0], "b": [np.nan], "c": [3.0], "d": [4.0]}
    base, other = ({name: [factor] for name in values} for factor in (0.0, 10.0))
    found = outcome_of(bench, base, values, other)
    assert [conflict.name for conflict in found.manifest.conflicts] == ["b"]
    assert {n: bench.values(p)[0] for n, p in found.manifest.parameters.items() if n != "b"} == {
        "a": 5.5,
        "c": 6.5,
        "d": 7,
    }


def test_tied_parameters_are_computed_once_and_stay_tied(bench, probe):
    method = probe(lambda piece: piece.branches[0] + piece.branches[1])
    base, one, two = ({"head": [value], "wte": [value], "x": [value + 1]} for value in (0.0, 1.0, 2.0))
    found = outcome_of(bench, base, one, two, method=method.name)
    assert found.manifest.parameters["head"] == found.manifest.parameters["wte"]
    assert sorted(piece.name for piece in method.pieces) == ["head", "x"]
    assert found.computed == {method.name: 3}


def test_rows_that_one_side_appended_are_kept_and_the_others_merged(bench):
    base, shrunk = [[0.0, 0.0], [0.0, 0.0]], [[2.0, 4.0], [6.0, 8.0]]
    grown = [[4.0, 4.0], [0.0, 0.0], [5.0, 7.0]]
    for sides in ((shrunk, grown), (grown, shrunk)):
        before, *rows = (bench.manifest({"w": row}) for row in (base, *sides))
        found = apply(plan(before, rows, Rules.only("grow")), bench.store)
        assert bench.values(found.manifest.parameters["w"]) == [[3, 4], [3, 4], [5, 7]]
        assert bench.layout(found.manifest).parameters["w"] == TensorSpec.of("F32", (3, 2))
    both = outcome_of(bench, base, grown, [*grown, [1.0, 1.0]], method="grow")
    assert "several sides" in both.manifest.conflicts[0].reason.text


@pytest.mark.parametrize("grown", [False, True])
def test_rows_that_one_side_appended_are_reported_from_statistics(bench, grown):
    base, one = [[1.0, 1.0]], [[2.0, 4.0]]
    two = [[4.0, 8.0], [5.0, 7.0]] if grown else [[4.0, 8.0]]
    before, *rows = (bench.manifest({"w": row}) for row in (base, one, two))
    weighed = {n: {"fisher/w": bench.parameter(np.full_like(row, n + 1.0))} for n, row in enumerate((one, two))}
    choice = replace(Rules.only("fisher").defaults, grow=True)
    found = apply(plan(before, rows, Rules(choice)), bench.store, lambda: Engine(bench.store, statistics=weighed))
    assert bench.values(found.manifest.parameters["w"]) == [[pytest.approx(10 / 3), pytest.approx(20 / 3)], *two[1:]]


def test_statistics_may_be_larger_than_what_they_are_about(bench):
    rng = np.random.default_rng(0)
    base, one, two = (rng.normal(size=(8, 1024)).astype(np.float32) for _ in range(3))
    before, *rows = (bench.manifest({"w": row}) for row in (base, one, two))
    grams = {n: {"gram/w": bench.parameter(np.eye(1024, dtype=np.float32))} for n in range(2)}
    found = apply(plan(before, rows, Rules.only("regmean")), bench.store, lambda: Engine(bench.store, statistics=grams))
    assert found.conflicts == 0
    np.testing.assert_allclose(bench.values(found.manifest.parameters["w"]), (one + two) / 2, rtol=1e-6)


def test_statistics_of_another_shape_are_refused_and_not_cut(bench, monkeypatch):
    monkeypatch.setattr(tasks, "ROW_ELEMENTS", 2)
    before, *rows = (bench.manifest({"w": np.full((3, 2), value)}) for value in (0.0, 1.0, 2.0))
    larger = {n: {"fisher/w": bench.parameter(np.ones((4, 2), np.float32))} for n in range(2)}
    found = apply(plan(before, rows, Rules.only("fisher")), bench.store, lambda: Engine(bench.store, statistics=larger))
    assert "shape of the" in found.manifest.conflicts[0].reason.text


@pytest.mark.parametrize("method", ["average", "ties", "slerp", "iso_c", "della"])
def test_empty_tensors_whose_types_differ_are_merged(bench, method):
    empty = [(kind, np.zeros((3, 0), "V2")) for kind in ("F16", "BF16")]
    found = outcome_of(bench, np.zeros((3, 0), np.float32), *empty, method=method)
    assert found.conflicts == 0
    assert found.manifest.parameters["w"].spec == TensorSpec.of("F16", (3, 0))


def test_complex_numbers_of_two_widths_are_merged(bench):
    base, one = (np.full(1 << 19, value, np.complex64) for value in (0, 1))
    two = ("C128", np.full(1 << 19, 3j))
    assert set(merged(bench, base, one, two).tolist()) == {0.5, 1.5}


class Scarce(Cpu):
    """Says that it is a CUDA device, which runs out of memory after some pieces, or fails for good."""

    name = "cuda:0"
    fused = False

    def __init__(self, pieces, error=None):
        self.left = pieces
        self.error = error or torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    def lane(self):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().lane()


@pytest.mark.parametrize("pieces", [0, 1, 3, 5, 9, 100])
@pytest.mark.parametrize(
    ("method", "options"),
    [("average", {}), ("slerp", {}), ("ties", {}), ("ties", {"ties": "exact"}), ("ties", {"density": 1.0})],
)
def test_what_a_device_has_no_memory_left_for_is_merged_on_the_processor(bench, method, options, pieces):
    enough = pieces >= (12 if method == "ties" else 4)  # two of three readings look for the threshold
    notes = notes_of_a_failing_device(bench, method, options, Scarce(pieces))
    assert [note.partition(": merged ")[0] for note in notes] == ([] if enough else ["cuda:0 ran out of memory"])


def notes_of_a_failing_device(bench, method, options, device):
    rng = np.random.default_rng(3)
    base, one, two = ({f"w{n}": np.sign(rng.normal(size=(9, 5))) for n in range(4)} for _ in range(3))
    expected = outcome_of(bench, base, one, two, method=method, options=options)
    assert expected.notes == ()
    devices = Devices((device,))
    found = outcome_of(
        bench, base, one, two, method=method, options=options, start=lambda: Engine(bench.store, devices)
    )
    assert found.manifest == expected.manifest
    assert not expected.conflicts
    return found.notes


LOST = "CUDA error: an illegal memory access was encountered"


@pytest.mark.parametrize(
    ("text", "happened"),
    [
        (f"{LOST}\nCUDA kernel errors might be asynchronously reported", f"failed ({LOST})"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "ran out of memory"),
        ("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR.", "failed (cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR)"),
    ],
    ids=["lost", "workspace", "library"],
)
@pytest.mark.parametrize("method", ["average", "slerp", "ties"])
def test_what_a_device_fails_at_is_merged_on_the_processor(bench, method, text, happened):
    notes = notes_of_a_failing_device(bench, method, {}, Scarce(3, RuntimeError(text)))
    assert [note.partition(": merged ")[0] for note in notes] == [f"cuda:0 {happened}"]


@pytest.mark.parametrize(("exact", "expected"), [(False, {"small": 1, "large": 2}), (True, {"small": 2, "large": 2})])
def test_small_matrices_are_decomposed_by_one_thread(bench, probe, exact, expected):
    threads = {}

    def noted(piece):
        threads[piece.name] = torch.get_num_threads()
        return piece.branches[0]

    method = probe(noted, granularity="matrix", exact=exact)
    base, one, two = (
        {"small": np.full((512, 512), n), "large": np.full((513, 512), n)} for n in np.arange(3, dtype="f4")
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert outcome_of(bench, base, one, two, method=method.name).conflicts == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads == expected


def test_errors_of_a_method_are_not_taken_for_those_of_a_device(bench, probe):
    def broken(piece):
        raise RuntimeError("The size of tensor a (2) must match the size of tensor b (3)")

    method = probe(broken)
    with pytest.raises(RuntimeError, match="must match"):
        outcome_of(
            bench, [0.0], [1.0], [2.0], method=method.name, start=lambda: Engine(bench.store, Devices((Scarce(9),)))
        )


def test_random_numbers_depend_on_versions_name_and_seed_alone(bench, probe):
    method = probe(lambda piece: piece.branches[0] * 1, stochastic=True, options={"seed": Option(0)}, needs_base=True)
    base, one, two = ({name: [value, 1.0] for name in "ab"} | {"c": [value + 1]} for value in (0.0, 1.0, 2.0))
    drawn = []
    for seed in (0, 0, 1):
        method.pieces.clear()
        outcome_of(bench, base, one, two, method=method.name, options={"seed": seed})
        drawn.append({piece.name: piece.keys for piece in method.pieces})
    assert drawn[0] == drawn[1]
    keys = [key for found in (drawn[0], drawn[2]) for some in found.values() for key in some]
    assert len(set(keys)) == len(keys) == 8
    assert all(0 <= key < 1 << 64 for key in keys)


class Counting(Cpu):
    """Counts the tensors that are saved, and fails after some."""

    fused = False

    def __init__(self, limit=1 << 30):
        self.saved, self.limit = 0, limit

    def save(self, values, dtype, room):
        if self.saved == self.limit:
            raise KeyboardInterrupt
        self.saved += 1
        super().save(values, dtype, room)


@pytest.mark.parametrize("method", ["average", "ties"])
def test_a_merge_that_was_killed_goes_on_where_it_was(bench, tmp_path, monkeypatch, method):
    monkeypatch.setattr("git_theta_ext.store.batches.BATCH_BYTES", 1)
    bench.store.threads = 1  # so that tensors are merged one after another
    rng = np.random.default_rng(1)
    base, one, two = ({f"w{n}": rng.normal(size=50).astype(np.float32) for n in range(10)} for _ in range(3))
    expected = outcome_of(bench, base, one, two, method=method).manifest
    place = tmp_path / "merging" / "journal"

    def again(device):
        return outcome_of(
            bench, base, one, two, method=method, start=lambda: Engine(bench.store, Devices((device,)), Journal(place))
        )

    with pytest.raises(KeyboardInterrupt):
        again(Counting(6))
    place.write_text(place.read_text() + '\n{"identity": "cut sho')
    device = Counting()
    outcome = again(device)
    assert outcome.manifest == expected
    assert 4 <= device.saved < 10
    assert outcome.resumed == 10 - device.saved
    assert again(Counting(0)).manifest == expected


@pytest.mark.parametrize("method", ["average", "slerp"])  # one has a kernel, and one takes whole tensors
def test_tensors_of_several_pieces_are_hashed_while_they_are_merged(bench, method):
    rng = np.random.default_rng(4)
    shapes = {"large": (3, 400_000), "small": (5,)}
    versions = [{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(3)]
    base, *sides = map(bench.manifest, versions)
    prepared = tasks.single_tasks(plan(base, sides, Rules.only(method)), {})
    results = list(run(bench.store, Cpu(), prepared, SignElection(), lambda _: None))
    for result in results:
        hashed = method == "average" and result.task.name == "large"
        assert result.digest == (tensor_digest(result.task.spec, result.data) if hashed else None)
    assert len(results) == len(shapes)


def test_a_journal_that_is_not_kept_only_removes_that_of_an_earlier_run(bench, tmp_path):
    rng = np.random.default_rng(5)
    base, one, two = ({f"w{n}": rng.normal(size=50).astype(np.float32) for n in range(3)} for _ in range(3))
    place = tmp_path / "journal"

    def merge(*, kept):
        journal, device = Journal(place, kept=kept), Counting()
        outcome_of(bench, base, one, two, start=lambda: Engine(bench.store, Devices((device,)), journal))
        return journal, device.saved

    merge(kept=True)
    before = place.read_bytes()
    journal, saved = merge(kept=False)
    assert (saved, place.read_bytes()) == (3, before)
    journal.done()
    assert not place.exists()


@pytest.fixture(scope="module")
def papers_ties():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("fusion_bench.method.ties_merging.ties_merging_utils").ties_merging


@pytest.mark.parametrize("density", [0.2, 0.5])
@pytest.mark.parametrize("kind", ["F32", "BF16"])
@pytest.mark.parametrize("sides", [2, 3])
def test_ties_over_the_whole_model_has_the_bits_of_the_papers_code(bench, papers_ties, kind, density, sides):
    rng = np.random.default_rng(sides)
    shapes = {"a": (30, 20), "b": (7,), "c": (400,), "d": (3, 5, 2), "e": (1000,)}
    base = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    branches = []
    for number in range(sides):
        moved = {name: value + 0.1 * rng.normal(size=value.shape).astype(np.float32) for name, value in base.items()}
        # One that nobody changed, and one that only one branch changed.
        moved["d"] = base["d"]
        moved["e"] = moved["e"] if number == 1 else base["e"]
        branches.append(moved)
    rows = [{name: raw(kind, value) for name, value in row.items()} for row in (base, *branches)]
    found = outcome_of(bench, *rows, method="ties", options={"density": density})
    assert found.computed == {"ties": 3}
    dtype = TensorSpec.of(kind, ()).dtype

    def flat(row):
        return torch.from_numpy(np.concatenate([to_float(value.tobytes(), dtype) for _, value in row.values()]))

    start = flat(rows[0])
    vectors = torch.stack([flat(row) - start for row in rows[1:]])
    change = papers_ties(vectors, reset_thresh=100 * density, merge_func="dis-mean")
    expected = dict(zip(shapes, (start + change).split([base[name].size for name in shapes]), strict=True))
    for name in ("a", "b", "c"):
        parameter = found.manifest.parameters[name]
        data = bench.store.read(parameter.digest, parameter.spec)
        assert bytes(data) == from_float(expected[name].numpy(), dtype), name


@pytest.mark.parametrize("asked", [{"scope": "tensor"}, {"scope": "rule"}, {"ties": "exact"}, {"density": 1.0}])
def test_other_scopes_and_exact_ties_keep_the_share_that_is_asked_for(bench, asked):
    rng = np.random.default_rng(0)
    base = {name: np.zeros(1000, np.float32) for name in "ab"}
    one = {"a": np.sign(rng.normal(size=1000)).astype(np.float32), "b": rng.normal(size=1000).astype(np.float32)}
    same = {name: value * 2 for name, value in one.items()}
    found = outcome_of(bench, base, one, same, method="ties", options=asked)
    kept = {name: int(np.count_nonzero(bench.values(found.manifest.parameters[name]))) for name in "ab"}
    if asked == {"scope": "tensor"}:
        assert kept == {"a": 1000, "b": 201}  # all of one are equal
    elif asked == {"ties": "exact"}:
        assert sum(kept.values()) == 401
    elif asked == {"density": 1.0}:
        assert sum(kept.values()) == 2000
    else:
        assert kept["b"] < 401


def test_thresholds_do_not_depend_on_which_tensors_are_counted_together(bench, monkeypatch):
    rng = np.random.default_rng(1)
    base = {f"{number}": rng.normal(size=1 + 40 * number).astype(np.float32) for number in range(8)}
    branches = [
        {name: value if rng.random() < 0.3 else value + rng.normal(size=value.shape) for name, value in base.items()}
        for _ in range(3)
    ]
    branches = [{name: value.astype(np.float32) for name, value in row.items()} for row in branches]
    found, calls = [], []
    monkeypatch.setattr(search, "counts_in", lambda vector, bins: calls.append(vector.size) or counts_in(vector, bins))
    monkeypatch.setattr(histograms, "knows", lambda _: False)  # the kernel counts without a call of that
    numbers, elements = [], set()
    for small, together in ((0, 0), (1 << 14, 1 << 16), (100, 1 << 16), (1 << 14, 300), (1 << 14, 0)):
        monkeypatch.setattr(search, "_SMALL", small)
        monkeypatch.setattr(search, "_TOGETHER", together)
        found.append(outcome_of(bench, base, *branches, method="ties").manifest)
        numbers.append(len(calls))
        elements.add(sum(calls))
        calls.clear()
    assert found.count(found[0]) == len(found)
    assert len(elements) == 1
    assert numbers[1] < numbers[2] < numbers[0] == numbers[4]
    assert numbers[1] < numbers[3] < numbers[0]
