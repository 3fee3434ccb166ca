import numpy as np
import pytest
import torch

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.interfaces import MergeContract
from git_theta_ext.merge.compute import Source, merge_tensor
from git_theta_ext.model.numbers import from_float, to_float
from git_theta_ext.model.tensor import TensorSpec
from git_theta_plugins.merges.average import METHOD


class Method:
    """A method from a function, noting the shapes it is called with."""

    name = "probe"

    def __init__(self, function, **contract):
        self.contract = MergeContract(**{"needs_base": False, "symmetric": False} | contract)
        self.function = function
        self.shapes = []

    def __call__(self, base, branches, params):
        self.shapes.append((tuple(branches[0].shape), branches[0].dtype))
        return self.function(base, branches, params)


def source(values, kind="F32", side="ours", pieces=1):
    array = np.asarray(values, np.float32)
    data = from_float(array, TensorSpec.of(kind, ()).dtype)
    step = max(1, -(-len(data) // pieces))
    return Source(
        side, TensorSpec.of(kind, array.shape), [memoryview(data)[n : n + step] for n in range(0, len(data), step)]
    )


def read(data, kind="F32"):
    return to_float(data, TensorSpec.of(kind, ()).dtype).tolist()


def test_values_are_merged_and_come_back_in_the_first_branchs_type():
    merged = merge_tensor(METHOD, None, [source([1, 2], "BF16"), source([3, 4], "F32")])
    assert len(merged) == 4
    assert read(merged, "BF16") == [2, 3]


@pytest.mark.parametrize("kind", ["F32", "BF16", "F16", "F8_E4M3"])
@pytest.mark.parametrize("piece", [1, 3, 64, 1000, 5000])
def test_neither_pieces_nor_chunks_change_the_bits(kind, piece):
    rng = np.random.default_rng(5)
    one, two = (rng.normal(size=1000).astype(np.float32) for _ in range(2))
    expected = merge_tensor(METHOD, None, [source(one, kind), source(two, kind)])
    for pieces in (1, 2, 7):
        branches = [source(one, kind, pieces=pieces), source(two, kind, pieces=3)]
        assert merge_tensor(METHOD, None, branches, piece) == expected


def test_elementwise_methods_get_flat_pieces():
    method = Method(lambda _base, branches, _params: branches[0].clone())
    merged = merge_tensor(method, None, [source(np.ones((2, 5))), source(np.zeros((2, 5)))], piece=4)
    assert [shape for shape, _ in method.shapes] == [(4,), (4,), (2,)]
    assert read(merged) == [1] * 10


def test_other_methods_get_the_tensor_as_it_is():
    method = Method(lambda _base, branches, _params: branches[0].clone(), granularity="matrix")
    merge_tensor(method, None, [source(np.ones((2, 5))), source(np.zeros((2, 5)))], piece=4)
    assert [shape for shape, _ in method.shapes] == [(2, 5)]


def test_the_base_and_the_default_parameters_reach_the_method():
    method = Method(
        lambda base, branches, params: base + params["scale"] * sum(b - base for b in branches),
        needs_base=True,
        parameters={"scale": 0.5},
    )
    merged = merge_tensor(method, source([1, 1], side="base"), [source([3, 1]), source([1, 5])])
    assert read(merged) == [2, 3]


def test_sixty_four_bit_floats_keep_their_precision():
    one, two = (np.array([value]) for value in (1 + 2**-40, 1.0 + 2**-39))
    spec = TensorSpec.of("F64", (1,))
    merged = merge_tensor(METHOD, None, [Source("ours", spec, [one.data]), Source("theirs", spec, [two.data])])
    assert np.frombuffer(merged)[0] == (one[0] + two[0]) / 2


def test_complex_values_are_merged_by_components():
    spec = TensorSpec.of("C64", (2,))
    one, two = (np.array(v, np.complex64) for v in ([1 + 2j, 0], [3 - 4j, 2]))
    merged = merge_tensor(METHOD, None, [Source("ours", spec, [one.data]), Source("theirs", spec, [two.data])])
    assert np.frombuffer(merged, np.complex64).tolist() == [2 - 1j, 1]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_scalars_and_empty_tensors_are_merged(shape):
    ones, zeros = np.ones(shape), np.zeros(shape)
    assert read(merge_tensor(METHOD, None, [source(ones), source(zeros)])) == [0.5] * ones.size


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_side(bad):
    with pytest.raises(MergeError, match="theirs has NaN or infinite"):
        merge_tensor(METHOD, None, [source([1, 2]), source([1, bad], side="theirs")])


@pytest.mark.parametrize("kind", ["F16", "F8_E4M3", "F8_E5M2", "BF16"])
def test_a_result_too_large_for_our_type_is_refused(kind):
    method = Method(lambda _base, branches, _params: branches[1])
    with pytest.raises(MergeError, match=kind):
        merge_tensor(method, None, [source([1], kind), source([3.4e38])])


@pytest.mark.parametrize(
    "function",
    [
        lambda _base, branches, _params: branches[0][:1],
        lambda _base, branches, _params: branches[0].to(torch.float16),
        lambda *_: None,
    ],
)
def test_a_method_that_breaks_its_contract_is_named(function):
    with pytest.raises(PluginError, match="probe"):
        merge_tensor(Method(function), None, [source([1, 2]), source([3, 4])])


def test_a_method_for_pairs_of_parameters_is_refused():
    with pytest.raises(MergeError, match="pairs"):
        merge_tensor(Method(lambda *_: None, granularity="pair"), None, [source([1]), source([2])])
