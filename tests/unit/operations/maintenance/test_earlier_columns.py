"""The parents of tensors that change together are those that each of them has on its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.history.versions import Version
from git_theta_ext.operations.maintenance import earlier_columns
from git_theta_ext.operations.maintenance.delta_candidates import candidates

SPECS = [TensorSpec.of("F32", (4, 2)), TensorSpec.of("F32", (2, 4))]
NAMES = [f"layer.{number}.weight" for number in range(4)]


def version(number, path, values, spec=SPECS[0], previous=()):
    parameters = {name: Parameter(spec, Digest(f"{value:064x}")) for name, value in values.items()}
    manifest = Manifest("safetensors", Skeleton(Digest("f" * 64), 8), parameters)
    return Version(str(number), path, str(number), number, manifest, previous)


def together(count, path="m", shift=0, names=NAMES):
    return [version(n, path, {name: 100 * n + at + shift for at, name in enumerate(names)}) for n in range(count)]


def groups_of(history):
    """Return what each version adds."""
    return candidates(history, {digest for version in history for digest in version.manifest.columns.digests})


def parents_of_all(group):
    return group.parents_of(group.digests)


def test_tensors_that_change_together_have_the_values_of_earlier_versions():
    groups = [parents_of_all(group) for group in groups_of(together(12))]
    assert groups[0] == []
    assert groups[1] == [[f"{at:064x}" for at in range(4)]]
    assert groups[11] == [[f"{100 * n + at:064x}" for at in range(4)] for n in reversed(range(3, 11))]


def test_a_version_in_which_only_some_changed_has_no_columns():
    first, _, third = together(3)
    mixed = version(1, "m", dict(zip(NAMES, (0, 1, 102, 103), strict=True)))
    assert [parents_of_all(group) for group in groups_of([first, mixed, third])][2] is None
    # The two that changed in it, and the two that did not, did change together.
    (*_, last) = groups_of([first, mixed, third])
    assert last.parents_of(last.digests[2:]) == [[f"{100 + at:064x}" for at in (2, 3)], [f"{at:064x}" for at in (2, 3)]]
    assert last.parents_of(last.digests[:2]) == [[f"{at:064x}" for at in (0, 1)]]


def test_parameters_next_to_others_or_of_other_specs_have_no_columns():
    history = [*together(2), version(7, "m", dict(zip([*NAMES, "new"], range(700, 705), strict=True)))]
    assert [parents_of_all(group) for group in groups_of(history)][2] is None
    history = [*together(2), version(7, "m", dict(zip(NAMES, range(700, 704), strict=True)), SPECS[1])]
    assert [parents_of_all(group) for group in groups_of(history)][2] is None


def test_versions_that_are_far_away_are_left_to_be_looked_up_one_by_one(monkeypatch):
    monkeypatch.setattr(earlier_columns, "_FARTHEST", 2)
    groups = [parents_of_all(group) for group in groups_of(together(5))]
    assert [None if group is None else len(group) for group in groups] == [0, 1, 2, None, None]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.sampled_from(SPECS),
            st.lists(st.integers(0, 12), min_size=4, max_size=4),
            st.lists(st.integers(0, 9), max_size=2),
            st.integers(1, 4),
        ),
        max_size=10,
    )
)
def test_columns_agree_with_what_each_tensor_has(changes):
    history = [
        version(
            number,
            path,
            {name: 1000 * at + value for at, (name, value) in enumerate(zip(NAMES[:count], values, strict=False))},
            spec,
            tuple(str(one) for one in previous if one < number),
        )
        for number, (path, spec, values, previous, count) in enumerate(changes)
    ]
    for group in groups_of(history):
        each = {candidate.digest: candidate for candidate in group}
        assert [*each] == list(group.digests)
        columns = group.parents_of(group.digests)
        if columns is not None:
            found = [list(values) for values in zip(*columns, strict=True)] or [[] for _ in group.digests]
            assert found == [[digest for digest, _ in each[one].parents] for one in group.digests]
            assert all(spec == candidate.spec for candidate in each.values() for _, spec in candidate.parents)
