"""Progress by bytes, and transfers that stop together."""

from __future__ import annotations

import threading
import time

import pytest
from reports import Done

from git_theta_ext.errors import RemoteError
from git_theta_ext.transfer.meter import Meter, Tally
from git_theta_ext.transfer.pool import Pool, StoppedError
from git_theta_ext.transfer.remote_index import OpenedRemote


def test_no_byte_counts_twice():
    done = Done()
    tally = Tally(done)
    tally.expect("a", 100)
    tally.expect("a", 100)
    for position in (0, 40, 60, 10, 0, 60, 70, 500):  # two tries, and a lie
        tally.report("a", position)
        assert sum(done) <= done.expected == 100
    assert min(done) >= 0
    assert sum(done) == 100
    tally.finish("a")
    assert sum(done) == 100


def test_what_is_not_reported_counts_at_the_end():
    done = Done()
    tally = Tally(done)
    for key in "abc":
        tally.expect(key, 100)
    tally.report("a", 0)  # the remote will report the rest
    for key in "ab":
        tally.finish_unreported(key)
    assert sum(done) == 100
    for key in "abc":
        tally.finish(key)
    assert sum(done) == 300
    tally.report("another object", 7)
    assert sum(done) == 300


def test_reports_reach_those_who_watch():
    meter, first, second = Meter(), [], []

    def watch(key, nbytes):
        first.append((key, nbytes))

    meter("a", 1)
    with meter.watched(watch):
        meter("a", 2)
        with meter.watched(lambda *report: second.append(report)):
            meter("a", 3)
    meter("a", 4)
    assert (first, second) == ([("a", 2), ("a", 3)], [("a", 3)])


def transfers(meter, ended, begun):
    """Return a transfer that goes on until it is stopped."""

    def transfer():
        begun.release()
        deadline = time.monotonic() + 60
        try:
            while time.monotonic() < deadline:
                meter("a", 1)
                time.sleep(0.001)
        except StoppedError:
            ended.append("stopped")
            raise

    return transfer


def fails(begun):
    begun.acquire()
    raise RemoteError("refused")


def test_a_failure_stops_the_other_transfers_and_is_the_error():
    remote, ended, begun = OpenedRemote("origin", "x", None), [], threading.Semaphore(0)

    def run():
        with Pool(2, Tally(Done()), [remote, remote]) as pool:
            running = pool.submit(transfers(remote.meter, ended, begun))
            pool.submit(lambda: fails(begun))
            pool.submit(lambda: ended.append("begun all the same"))
            pool.result(running)

    with pytest.raises(RemoteError, match="refused"):
        run()
    assert ended == ["stopped"]


def test_an_interruption_stops_transfers():
    remote, ended, begun = OpenedRemote("origin", "x", None), [], threading.Semaphore(0)

    def run():
        with Pool(1, Tally(Done()), [remote]) as pool:
            pool.submit(transfers(remote.meter, ended, begun))
            pool.submit(lambda: ended.append("begun all the same"))
            begun.acquire()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert ended == ["stopped"]
