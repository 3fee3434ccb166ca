from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import pytest

from git_theta_ext.errors import RemoteError
from git_theta_plugins.remotes._batches import Batches

MOST = 100


def test_questions_of_threads_are_joined():
    requests = []

    def ask(asked):
        if not requests:
            while len(batches._waiting) + len(asked) < 150:
                sleep(0.001)
        requests.append(len(asked))
        return {one: str(one) for one in asked}

    batches, together = Batches(ask, MOST), Barrier(150)

    def one(number):
        together.wait()
        return batches.ask(number)

    with ThreadPoolExecutor(150) as executor:
        answers = list(executor.map(one, range(150)))
    assert answers == [str(number) for number in range(150)]
    assert sum(requests) == 150
    assert max(requests) <= MOST
    assert len(requests) <= 3


def test_a_failure_reaches_all_that_asked_and_no_others():
    calls = []

    def ask(asked):
        calls.append(asked)
        if len(calls) == 1:
            raise RemoteError("no")
        return {one: str(one) for one in asked}

    batches = Batches(ask, MOST)
    with pytest.raises(RemoteError, match="no"):
        batches.ask(1)
    assert batches.ask(1) == "1"


def test_an_unexpected_error_does_not_block_later_questions():
    def ask(asked):
        raise ZeroDivisionError if len(asked) else AssertionError

    batches = Batches(ask, MOST)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            batches.ask(1)


def test_a_request_has_no_more_weight_than_allowed_but_at_least_one_object():
    requests = []

    def ask(asked):
        requests.append(list(asked))
        return {one: str(one) for one in asked}

    batches, together = Batches(ask, 10, lambda number: number), Barrier(6)

    def one(number):
        together.wait()
        return batches.ask(number)

    with ThreadPoolExecutor(6) as executor:
        assert list(executor.map(one, [4, 5, 3, 40, 2, 1])) == ["4", "5", "3", "40", "2", "1"]
    assert all(sum(request) <= 10 or len(request) == 1 for request in requests)
