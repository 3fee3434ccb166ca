import threading
import time
from functools import partial

import pytest

from git_theta_ext.merging.execution.parallel import interleaved, shares


def test_the_largest_goes_first_to_whoever_has_least_and_everybody_keeps_the_order():
    assert shares("abcde", [3, 1, 5, 4, 2], [[0, 1]] * 5) == {0: ["b", "c", "e"], 1: ["a", "d"]}


def test_nobody_gets_what_is_not_allowed_to_him():
    assert shares("abc", [9, 9, 1], [[1], [1, 2], [0]]) == {0: ["c"], 1: ["a"], 2: ["b"]}


def test_nothing_is_shared_out_among_nobody():
    assert shares("", [], []) == {}
    assert list(interleaved([])) == []


def numbered(name, count, log, *, fails=False):
    try:
        for number in range(count):
            log.append((name, threading.get_ident()))
            yield name, number
            time.sleep(0.001)
        if fails:
            raise ValueError(name)
    finally:
        log.append((name, "closed"))


def test_all_is_yielded_from_threads_of_their_own_each_in_its_order():
    log = []
    found = list(interleaved([partial(numbered, name, 20, log) for name in "abc"]))
    for name in "abc":
        assert [number for who, number in found if who == name] == list(range(20))
    threads = {thread for _, thread in log} - {"closed"}
    assert len(threads) == 3
    assert threading.get_ident() not in threads


def test_a_single_one_needs_no_thread():
    log = []
    assert len(list(interleaved([partial(numbered, "a", 3, log)]))) == 3
    assert {thread for _, thread in log} == {threading.get_ident(), "closed"}


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_reaches_the_consumer_and_stops_the_others(count):
    log = []
    before = set(threading.enumerate())
    sources = [partial(numbered, "a", 2, log, fails=True)]
    sources += [partial(numbered, name, 10**9, log) for name in "bc"[: count - 1]]
    with pytest.raises(ValueError, match="a"):
        list(interleaved(sources))
    assert [thread for _, thread in log].count("closed") == count
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_reaches_the_consumer_too(error):
    def broken():
        yield 1
        raise error

    with pytest.raises(error):
        list(interleaved([broken, broken]))


@pytest.mark.parametrize("count", [1, 3])
def test_a_consumer_that_stops_early_leaves_nothing_running(count):
    log = []
    before = set(threading.enumerate())
    for _ in interleaved([partial(numbered, name, 10**9, log) for name in "abc"[:count]]):
        break
    else:
        pytest.fail("nothing came")
    assert [thread for _, thread in log].count("closed") == count
    assert set(threading.enumerate()) <= before


def test_nobody_runs_further_ahead_than_one_item():
    log = []
    found = interleaved([partial(numbered, name, 100, log) for name in "ab"])
    for taken in range(1, 11):
        next(found)
        time.sleep(0.005)
        made = len([thread for _, thread in log if thread != "closed"])
        assert made <= taken + 4  # of each one that waits to be taken, and one that waits for that
    found.close()
