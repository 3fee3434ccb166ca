"""Calls for processes that an operating system may lack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from git_theta_ext.util import processes


def test_cpus_are_those_of_the_process_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert processes.cpu_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert processes.cpu_count() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processes.cpu_count() == 1


def test_signals_that_end_a_process_are_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.ending_signals() == (signal.SIGTERM, signal.SIGHUP)
    monkeypatch.delattr(signal, "SIGHUP")
    assert processes.ending_signals() == (signal.SIGTERM,)


@pytest.mark.parametrize(("groups", "code"), [(True, -signal.SIGKILL), (False, -signal.SIGTERM)])
def test_process_is_ended_with_and_without_groups(groups: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not groups:
        monkeypatch.delattr(os, "killpg")
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    processes.kill_group(process.pid)
    assert process.wait() == code
    processes.kill_group(process.pid)  # it has ended: nothing happens


def test_peak_of_children_is_in_bytes_and_zero_if_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "-c", "bytearray(1 << 25)"], check=True)
    assert 1 << 25 < processes.peak_of_children() < 1 << 40
    monkeypatch.setitem(sys.modules, "resource", None)
    assert processes.peak_of_children() == 0


def test_priority_is_lowered_if_the_system_has_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered: list[int] = []
    monkeypatch.setattr(os, "nice", lowered.append)
    processes.lower_priority()
    monkeypatch.delattr(os, "nice")
    processes.lower_priority()
    assert len(lowered) == 1
