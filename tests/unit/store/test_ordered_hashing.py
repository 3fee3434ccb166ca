"""Pieces that threads add in any order are hashed in the order of the tensor."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.ordered_hashing import GroupHasher

SPECS = [TensorSpec.of("U8", (4000,)), TensorSpec.of("BF16", (2000,))]
VALUES = [random.Random(spec.nbytes).randbytes(spec.nbytes) for spec in SPECS]
DIGESTS = [tensor_digest(spec, value) for spec, value in zip(SPECS, VALUES, strict=True)]
COUNT, SIZE = 20, 200


def chunks(number):
    return [memoryview(value)[number * SIZE : (number + 1) * SIZE] for value in VALUES]


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_any_order_have_the_digests_of_the_tensors(seed):
    hasher = GroupHasher(SPECS)
    for number in random.Random(seed).sample(range(COUNT), COUNT):
        hasher.add(number, chunks(number))
    hasher.hash_up_to(COUNT - 1)
    assert hasher.digests() == DIGESTS


def test_memory_of_a_piece_can_be_used_again_after_it_was_hashed():
    hasher = GroupHasher(SPECS)
    rooms = {number: [bytearray(chunk) for chunk in chunks(number)] for number in range(COUNT)}
    with ThreadPoolExecutor(4) as executor:
        added = [
            executor.submit(hasher.add, number, [*map(memoryview, rooms[number])])
            for number in random.Random(1).sample(range(COUNT), COUNT)
        ]
        for future in added:
            future.result()
        for number in range(COUNT):
            hasher.hash_up_to(number)
            for room in rooms[number]:
                room[:] = bytes(SIZE)
    assert hasher.digests() == DIGESTS


def test_tensors_without_elements_have_digests():
    empty = TensorSpec.of("F32", (0, 3))
    assert GroupHasher([empty]).digests() == [tensor_digest(empty, b"")]
