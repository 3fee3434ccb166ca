"""Tensors of a bundle are read as one if they follow each other in a file as they do in the bundle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.model.bundle import Bundle
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.store.runs import Place, in_runs

SPECS = [TensorSpec.of("F32", (2,)), TensorSpec.of("F32", (2, 1)), TensorSpec.of("F32", (3,))]


def digest(number):
    return Digest(f"{number:064x}")


def spec(number):
    return SPECS[number % 3]


def bundle(numbers):
    return Bundle.of([(spec(number), digest(number)) for number in numbers])


def places(numbers, start=8, gap=0):
    """Return the places of tensors, with a gap after each of them."""
    found = []
    for number in numbers:
        found.append(Place(start, digest(number), spec(number)))
        start += spec(number).nbytes + gap
    return found


def test_tensors_of_a_bundle_become_one_place():
    held = bundle(range(4))
    found = in_runs(places([7, 0, 1, 2, 3, 8]), [held])
    first, *_, last = places([7, 0, 1, 2, 3, 8])
    assert found == [first, Place(first.offset + first.spec.nbytes, held.digest, held.spec), last]


def test_tensors_with_bytes_between_them_stay_apart():
    assert in_runs(places(range(4), gap=1), [bundle(range(4))]) == places(range(4), gap=1)


def test_tensors_of_other_shapes_stay_apart():
    swapped = [place._replace(spec=SPECS[1 - at]) if at < 2 else place for at, place in enumerate(places(range(4)))]
    assert in_runs(swapped, [bundle(range(4))]) == swapped


def test_a_bundle_without_one_of_its_tensors_or_in_another_order_stays_apart():
    for numbers in ([0, 1, 2], [0, 2, 1, 3], [1, 2, 3], []):
        assert in_runs(places(numbers), [bundle(range(4))]) == places(numbers)


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), max_size=4), st.lists(st.integers(0, 9))
)
def test_places_in_runs_have_the_same_tensors_at_the_same_bytes(bundles, numbers):
    held = {one.digest: one for one in map(bundle, bundles)}
    found = []
    for place in in_runs(places(numbers), held.values()):
        members = held[place.digest].members() if place.digest in held else [(0, place.spec, place.digest)]
        found += [Place(place.offset + start, name, kind) for start, kind, name in members]
    assert found == places(numbers)
