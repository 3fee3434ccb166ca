from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from git_theta_ext.errors import RemoteError
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS, Answer
from git_theta_ext.protocol.lfs.pointer import Pointer
from git_theta_plugins.remotes._lfs_batches import Batches


def pointers(count: int) -> list[Pointer]:
    return [Pointer(f"{number:064x}", number) for number in range(count)]


def test_questions_of_threads_are_joined():
    requests = []

    def ask(asked):
        requests.append(len(asked))
        return {one.oid: Answer(one) for one in asked}

    batches, together = Batches(ask), Barrier(150)

    def one(pointer):
        together.wait()
        return batches.ask(pointer)

    with ThreadPoolExecutor(150) as executor:
        answers = list(executor.map(one, pointers(150)))
    assert [answer.pointer for answer in answers] == pointers(150)
    assert sum(requests) == 150
    assert max(requests) <= MAX_OBJECTS
    assert len(requests) < 75


def test_a_failure_reaches_all_that_asked_and_no_others():
    calls = []

    def ask(asked):
        calls.append(asked)
        if len(calls) == 1:
            raise RemoteError("no")
        return {one.oid: Answer(one) for one in asked}

    batches = Batches(ask)
    with pytest.raises(RemoteError, match="no"):
        batches.ask(pointers(1)[0])
    assert batches.ask(pointers(1)[0]).pointer == pointers(1)[0]


def test_an_unexpected_error_does_not_block_later_questions():
    def ask(asked):
        raise ZeroDivisionError if len(asked) else AssertionError

    batches = Batches(ask)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            batches.ask(pointers(1)[0])
