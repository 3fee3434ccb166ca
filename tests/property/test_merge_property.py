"""Whatever two sides did, a merge is a valid manifest, the same from both sides, and loses nothing silently."""

import tempfile
from pathlib import Path

import numpy as np
from helpers import safetensors
from hypothesis import example, given, settings
from hypothesis import strategies as st

from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.execution.stream import run
from git_theta_ext.merging.execution.tasks import Task
from git_theta_ext.merging.execution.work import SignElection
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules, choice
from git_theta_ext.model.floats import from_float, to_float
from git_theta_ext.model.layout import Layout
from git_theta_ext.model.manifest import Manifest, Parameter
from git_theta_ext.model.tensor import TensorSpec, skeleton_spec, tensor_digest
from git_theta_ext.operations.merge.resolve import resolve
from git_theta_ext.store.store import Store

_TENSOR = st.tuples(st.sampled_from(["F32", "F16", "BF16", "I64"]), st.sampled_from([(2,), (1, 3)]), st.integers(0, 3))
_SIDE = st.dictionaries(st.sampled_from("abcd"), _TENSOR, max_size=4)


def _bytes(kind, shape, seed):
    spec = TensorSpec.of(kind, shape)
    values = np.full(spec.elements, seed + 1)
    return values.astype("<i8").tobytes() if kind == "I64" else from_float(values.astype(np.float32), spec.dtype)


def _cleaned(side, store):
    content = {name: (kind, shape, _bytes(kind, shape, seed)) for name, (kind, shape, seed) in sorted(side.items())}
    return clean(memoryview(safetensors(content)), "m.safetensors", store).manifest


def _fits(manifest, store):
    skeleton = manifest.skeleton
    layout = Layout.from_skeleton(store.read(skeleton.digest, skeleton_spec(skeleton.nbytes)))
    return layout.parameters == {name: parameter.spec for name, parameter in manifest.parameters.items()}


def _renamed(base, *sides):
    """Return the names that a side may have given to a value, and those that the value may have had before."""
    new = {v for s in sides for name, v in s.parameters.items() if name not in base.parameters}
    values = new & set(base.parameters.values())
    return {name for manifest in (base, *sides) for name, value in manifest.parameters.items() if value in values}


@settings(max_examples=40, deadline=None)
@example(({"b": ("F16", (2,), 0)}, {"b": ("F32", (2,), 0)}, {"a": ("F16", (2,), 0)}), "average")
@given(st.tuples(_SIDE, _SIDE, _SIDE), st.sampled_from(["average", "ours", "theirs", "base", "conflict"]))
def test_every_merge_is_valid_and_every_conflict_can_be_settled(sides, method):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "theta", threads=1)
        base, ours, theirs = (_cleaned(side, store) for side in sides)
        manifest = apply(plan(base, (ours, theirs), Rules.only(method)), store).manifest
        assert Manifest.parse(manifest.to_bytes()) == manifest
        assert not store.touch_and_find_missing(digest for digest, _ in manifest.digests())
        assert _fits(manifest, store)
        undecided = {conflict.name for conflict in manifest.conflicts}
        for name in {*base.parameters, *ours.parameters, *theirs.parameters} - undecided - _renamed(base, ours, theirs):
            found, before = manifest.parameters.get(name), base.parameters.get(name)
            mine, yours = ours.parameters.get(name), theirs.parameters.get(name)
            if mine in (before, yours):
                assert found == yours
            elif yours == before:
                assert found == mine
        if manifest.conflicted:
            settled = resolve(manifest, store, choice("theirs"))
            assert not settled.conflicted
            assert _fits(settled, store)
            assert all(settled.parameters.get(name) == theirs.parameters.get(name) for name in undecided)
        store.close()


@settings(max_examples=25, deadline=None)
@given(st.tuples(_SIDE, _SIDE, _SIDE))
def test_swapping_the_sides_swaps_nothing_but_their_names(sides):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "theta", threads=1)
        base, ours, theirs = (_cleaned(side, store) for side in sides)
        one = apply(plan(base, (ours, theirs), Rules.only("average")), store).manifest
        two = apply(plan(base, (theirs, ours), Rules.only("average")), store).manifest
        assert [c.name for c in one.conflicts] == [c.name for c in two.conflicts]
        undecided = {conflict.name for conflict in one.conflicts}
        for name in set(one.parameters) - undecided:
            if (kind := one.parameters[name].spec.dtype) == two.parameters[name].spec.dtype:
                assert one.parameters[name] == two.parameters[name], kind
        store.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    st.sampled_from(["F32", "F64", "F16", "BF16", "F8_E4M3", "F8_E5M2"]),
    st.sampled_from(["average"]),
)
def test_merging_a_tensor_with_itself_changes_nothing(values, kind, method):
    spec = TensorSpec.of(kind, (len(values),))
    data = from_float(np.array(values, np.float32), spec.dtype)
    data = from_float(np.nan_to_num(to_float(data, spec.dtype), posinf=1, neginf=-1), spec.dtype)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "theta", threads=1)
        digest = tensor_digest(spec, data)
        store.put([(spec, digest, data)])
        task = Task(("w",), choice(method), None, (Parameter(spec, digest),) * 2, (0, 1), ("ours", "theirs"), spec)
        (merged,) = run(store, Cpu(), [task], SignElection(), lambda _: None)
        assert bytes(merged.data) == data
        store.close()
