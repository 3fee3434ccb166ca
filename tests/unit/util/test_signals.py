"""Signals that end a process unwind it, unless it ignores them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from git_theta_ext.util.signals import unwinding_signals

RUN = """
import signal, sys
from git_theta_ext.util.signals import unwinding_signals

try:
    with unwinding_signals():
        signal.raise_signal(int(sys.argv[1]))
        print("went on")
finally:
    print("cleaned up")
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("ignored", [False, True])
def test_process_is_unwound_unless_it_was_started_with_the_signal_ignored(
    number: signal.Signals, ignored: bool
) -> None:
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(int(number))], stdout=subprocess.PIPE, text=True, check=False
        )
    finally:
        signal.signal(number, before)
    assert done.stdout.splitlines() == (["went on", "cleaned up"] if ignored else ["cleaned up"])
    assert done.returncode == (0 if ignored else 128 + number)


def test_handlers_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)]
    with unwinding_signals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)] == before
