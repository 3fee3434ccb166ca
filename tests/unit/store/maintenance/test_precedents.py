"""Small tensors are stored as similar ones were, and come back as they were."""

import pytest

from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.store.deltas.chains import smallest
from git_theta_ext.store.deltas.encode import DeltaHint
from git_theta_ext.store.maintenance import precedents, recode
from git_theta_ext.store.maintenance.cheapest import Candidate, PossibleParent, StoragePlan
from git_theta_ext.store.maintenance.precedents import ENOUGH, EVERY, RARELY, SURE, Precedents
from git_theta_ext.store.maintenance.recode import Recoder

SPEC = TensorSpec.of("F32", (512,))


def choice(number, spec=SPEC, depth=0):
    parent = PossibleParent(f"p{number}", spec, depth)
    return Candidate(f"t{number}", spec, ((parent.digest, spec),)), [parent]


def plan(made, encoding="delta", share=0.25):
    candidate, (parent, *_) = made
    return StoragePlan(candidate, DeltaHint(encoding, parent.digest, parent.spec), round(share * candidate.spec.nbytes))


def test_enough_equal_results_decide_for_the_others():
    found, made = Precedents(), [choice(number) for number in range(1000)]
    first = found.first(made)
    assert ENOUGH <= len(first) <= 1000 // EVERY + 1
    assert not found.decides(made[1])
    for one in first:
        found.note(one, plan(one))
    assert found.decides(made[1])
    assert found.plan(made[1]) == plan(made[1])
    assert len(found.first(made[:EVERY])) == 1  # in later versions too


@pytest.mark.parametrize(("alike", "apart"), [(1, RARELY + 1), (8, EVERY // 8), (EVERY, 1)])
def test_one_tensor_is_compared_after_many_groups_or_tensors(alike, apart):
    found, made = Precedents(), [choice(number) for number in range(EVERY)]
    for one in found.first(made)[:ENOUGH]:
        found.note(one, plan(one))
    assert found.decides(made[0])
    compared = [len(found.first(made[:alike])) for _ in range(10 * apart)]
    assert sum(compared) in {9, 10, 11}
    assert not any(compared[at] and compared[at + 1] for at in range(len(compared) - 1) if apart > 1)


def test_after_many_equal_results_a_quarter_as_many_are_compared():
    found, made = Precedents(), [choice(number) for number in range(12 * EVERY)]
    for one in made[:SURE]:
        found.note(one, plan(one))
    compared = found.first(made)
    assert len(compared) == 2
    for one in compared:
        found.note(one, None)
    assert len(found.first(made)) >= ENOUGH - 2  # since they have changed


def test_different_results_decide_nothing():
    found, made = Precedents(), [choice(number) for number in range(200)]
    for number, one in enumerate(found.first(made)):
        found.note(one, plan(one, "delta" if number % 2 else "low_rank"))
    assert not found.decides(made[1])


def test_one_other_result_is_enough_to_compare_again():
    found, made = Precedents(), [choice(number) for number in range(ENOUGH + 1)]
    for one in made:
        found.note(one, plan(one))
    found.note(made[0], plan(made[0], "low_rank"))
    assert not found.decides(made[1])
    assert len(found.first(made)) >= ENOUGH


def test_tensors_that_no_delta_suits_are_left_alone_after_enough_comparisons():
    found, made = Precedents(), [choice(number) for number in range(ENOUGH + 1)]
    for one in made:
        found.note(one, None)
    assert found.decides(made[0])
    assert found.plan(made[0]) is None


@pytest.mark.parametrize("other", [{"depth": 1}, {"spec": TensorSpec.of("F32", (256, 2))}])
def test_tensors_of_another_kind_are_not_decided(other):
    found = Precedents()
    for number in range(ENOUGH):
        found.note(choice(number), plan(choice(number)))
    assert found.decides(choice(0))
    assert not found.decides(choice(0, **other))


def test_large_tensors_are_always_compared():
    large = TensorSpec.of("F32", (precedents.LARGEST,))
    found, made = Precedents(), [choice(number, large) for number in range(2 * ENOUGH)]
    assert found.first(made) == made
    for one in made:
        found.note(one, plan(one))
    assert not found.decides(made[0])


@pytest.fixture
def compared(monkeypatch):
    """Return the digests of the tensors that were compared."""
    digests, real = [], recode.cheapest_delta

    def noted(decoder, blobs, candidate, *args, **kwargs):
        digests.append(candidate.digest)
        return real(decoder, blobs, candidate, *args, **kwargs)

    monkeypatch.setattr(recode, "cheapest_delta", noted)
    return digests


def pairs(steps, count):
    """Return a group of candidates, each with an earlier tensor as parent, and all items."""
    made = [steps(2, elements=512, seed=seed) for seed in range(count)]
    group = [Candidate(new[1], new[0], ((old[1], old[0]),)) for old, new in made]
    return group, [item for pair in made for item in pair]


@pytest.mark.usefixtures("unbundled")
def test_few_of_many_alike_are_compared_and_all_become_deltas(store, steps, compared):
    group, items = pairs(steps, 200)
    store.put(items)
    result = Recoder(store, 4).run([group])
    assert result.tensors == {"delta": 200}
    assert ENOUGH <= len(compared) <= 2 * ENOUGH
    held = smallest(store.index.all_locations())
    actual = sum(held[candidate.digest].stored for candidate in group)
    assert 0.8 * result.after < actual < result.after  # which counts headers too
    assert all(store.read(digest, spec) == data for spec, digest, data in items)


@pytest.mark.usefixtures("unbundled")
def test_all_are_compared_if_every_tensor_is_reconsidered(store, steps, compared):
    group, items = pairs(steps, 2 * ENOUGH)
    store.put(items)
    Recoder(store, 4, aggressive=True).run([group])
    assert sorted(compared) == sorted(candidate.digest for candidate in group)


@pytest.mark.usefixtures("unbundled")
def test_a_tensor_unlike_the_others_comes_back_and_takes_hardly_more(store, steps, make, compared):
    group, items = pairs(steps, 200)
    new = make(512, 7)  # independent of its parent
    at = next(number for number in range(1, 200) if number % (200 // ENOUGH))
    group[at] = Candidate(new[1], new[0], group[at].parents)
    store.put([*items, new])
    before = smallest(store.index.all_locations())[new[1]].stored
    assert Recoder(store, 4).run([group]).tensors == {"delta": 200}
    assert new[1] not in compared
    after = [location.stored for location in store.index.all_locations()[new[1]] if location.bases]
    assert after[0] <= before + 1
    assert all(store.read(digest, spec) == data for spec, digest, data in [*items, new])


@pytest.mark.usefixtures("unbundled")
def test_the_same_tensors_are_compared_with_any_number_of_threads(steps, compared, tmp_path):
    from git_theta_ext.store.store import Store

    group, items = pairs(steps, 100)
    results = []
    for threads in (1, 4):
        store = Store(tmp_path / str(threads), threads=threads)
        store.put(items)
        compared.clear()
        Recoder(store, 4).run([group])
        results.append((sorted(compared), sorted(path.name for _, path in store.pack_files())))
        store.close()
    assert results[0] == results[1]
