from __future__ import annotations

import io
import json
import sys
import threading
import time

import pytest

from git_theta_ext.cli import progress as progress_module
from git_theta_ext.cli.commands.env import masked
from git_theta_ext.cli.output import Output, output_to_git, wants_color
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import ThetaError, UsageError


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("mode", "expected"), [("human", "a\nb\n"), ("quiet", ""), ("json", '{\n  "schema": 1,\n  "n": 1\n}\n')]
)
def test_a_result_comes_in_the_form_that_was_asked_for(mode, expected, capsys):
    Output(mode).result({"n": 1}, ["a", "b"])
    assert capsys.readouterr().out == expected


def test_warnings_are_for_people_only(capsys):
    Output("json").warning("odd", "mend")
    Output("quiet").warning("odd", "mend")
    assert capsys.readouterr().err == ""
    Output("human").warning("odd", "mend")
    assert capsys.readouterr().err == "warning: odd\nhint: mend\n"


def test_a_note_or_warning_is_printed_once_and_git_s_programs_begin_each_line_with_their_name(capsys):
    output = output_to_git()
    for _ in range(2):
        output.warning("odd", "mend")
        output.note("known")
    output.error(UsageError("wrong"))
    assert capsys.readouterr().err.splitlines() == [
        "git-theta: warning: odd",
        "git-theta: hint: mend",
        "git-theta: known",
        "git-theta: error: wrong",
    ]


def test_errors_have_their_hint_and_no_empty_one(capsys):
    Output("quiet").error(UsageError("wrong", hint="right"))
    Output("human").error(UsageError("wrong"))
    Output("json").error(UsageError("wrong"))
    first, second, third, last = capsys.readouterr().err.splitlines()
    assert (first, second, third) == ("error: wrong", "hint: right", "error: wrong")
    assert json.loads(last) == {"schema": 1, "error": "wrong", "hint": None, "help": None, "exit_code": 2}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_follows_terminal_and_no_color(variables, expected, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert wants_color() is expected
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert wants_color() is False


def test_styles_are_left_out_without_colour():
    assert Output("human", color=True).styled("x", "red") == "\x1b[31mx\x1b[m"
    assert Output("human").styled("x", "red") == "x"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (98_752, "98.8 kB"), (999_600, "1000 kB"), (2_500_000_000, "2.5 GB")],
)
def test_bytes_read_well(count, expected):
    assert human_bytes(count) == expected


def test_one_is_not_many():
    assert [plural(n, "version") for n in (0, 1, 2)] == ["0 versions", "1 version", "2 versions"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("theta.remote.o.url", "https://me:pw@host/x?token=1", "https://***@host/x?***"),
        ("remote.o.url", "https://me:p@ss@host/x", "https://***@host/x"),
        ("theta.remote.o.secretkey", "abc", "***"),
        ("remote.o.url", "../plain", "../plain"),
        (
            "filter.theta.process",
            'git-theta || { echo >&2 "error"; exit 1; }',
            'git-theta || { echo >&2 "error"; exit 1; }',
        ),
        ("branch.keyboard.merge", "refs/heads/keyboard", "refs/heads/keyboard"),
    ],
)
def test_secrets_are_masked_and_nothing_else(key, value, expected):
    assert masked(key, value) == expected


def terminal(monkeypatch, patience):
    # Not a fixture: pytest puts its own streams back between set-up and test.
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress_module, "_DELAY", patience)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def no_terminal(monkeypatch, interval):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress_module, "_INTERVAL", interval)
    return stream


def until(condition):
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def test_short_work_shows_nothing(monkeypatch):
    for stream in (terminal(monkeypatch, 1000.0), no_terminal(monkeypatch, 1000.0)):
        with Output("human").progress("storing", 10) as advance:
            advance(10)
        assert stream.getvalue() == ""


def test_long_work_shows_a_bar_fed_from_any_thread(monkeypatch):
    stream = terminal(monkeypatch, 0.0)
    with Output("human").progress("storing", 10) as advance:
        threads = [threading.Thread(target=advance, args=(5,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "10/10 bytes" in stream.getvalue()
    assert "100" not in stream.getvalue().replace("100%", "")


@pytest.mark.parametrize("output", [Output("human", bars=False), Output("quiet"), Output("json")])
def test_nothing_is_shown_where_silence_was_asked_for(output, monkeypatch):
    stream = terminal(monkeypatch, 0.0)
    with output.progress("storing", 10) as advance:
        advance(10)
    assert stream.getvalue() == ""


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch):
    stream = no_terminal(monkeypatch, 0.01)
    with output_to_git().progress("storing", 10) as advance:
        time.sleep(0.02)
        assert stream.getvalue() == ""  # nothing has begun
        advance(3)
        until(lambda: stream.getvalue().count("\n") > 5)
        lines = stream.getvalue().splitlines()
        assert all(line.startswith("git-theta: storing: 3 B of 10 B (30 %), ") for line in lines)
        assert lines[0].endswith(" left")
        assert lines[-1].endswith(", 0 B/s")  # it has stalled


def test_what_began_last_is_shown_alone_and_then_the_rest(monkeypatch):
    stream = no_terminal(monkeypatch, 0.01)
    output = Output("human")
    with output.progress("uploading") as outer:
        outer.expect(8)
        outer(4)
        with output.progress("recoding", 10) as inner:
            seen = len(stream.getvalue())
            inner(5)
            outer(1)
            until(lambda: "recoding" in stream.getvalue())
            time.sleep(0.03)
            assert "uploading" not in stream.getvalue()[seen:]
        outer(1)
        until(lambda: "uploading: 6 B of 8 B (75 %)" in stream.getvalue())
    assert "uploading: 6 B of 8 B (75 %)" in stream.getvalue()


def test_one_bar_makes_room_for_another(monkeypatch):
    stream = terminal(monkeypatch, 0.0)
    output = Output("human")
    with output.progress("uploading", 8) as outer:
        outer(4)
        with output.progress("recoding", 10) as inner:
            inner(5)
            before = len(stream.getvalue())
            outer(2)
            assert "uploading" not in stream.getvalue()[before:]  # the other bar may be drawn again
        outer(1)
    assert "5/10 bytes" in stream.getvalue()
    assert "7/8 bytes" in stream.getvalue()


def test_no_work_exceeds_its_size(monkeypatch):
    stream = terminal(monkeypatch, 0.0)
    with Output("human").progress("storing", 10) as advance:
        advance(15)
    assert "10/10 bytes" in stream.getvalue()


@pytest.mark.parametrize(
    ("done", "total", "rate", "counted", "words"),
    [
        (3 * 10**8, 46 * 10**7, 3.3e6, False, "x: 300 MB of 460 MB (65 %), 3.3 MB/s, 48 s left"),
        (10**9, 10**10, 1e6, False, "x: 1 GB of 10 GB (10 %), 1 MB/s, 2 h 30 min left"),
        (10**9, 2 * 10**9, 1e6, False, "x: 1 GB of 2 GB (50 %), 1 MB/s, 17 min left"),
        (10**6, 0, 1e5, False, "x: 1 MB, 100 kB/s"),
        (30, 100, 2.0, True, "x: 30 of 100 (30 %), 2/s, 35 s left"),
    ],
)
def test_a_line_has_amount_rate_and_time_left(done, total, rate, counted, words):
    assert progress_module.line("x", done, total, rate, counted=counted) == words


def test_names_out_of_files_do_not_reach_the_terminal_as_they_are(capsys):
    output = Output("human", color=True)
    output.text(["\x1b]0;x\x07 https://me:p@ss@host/x", output.styled("title", "bold")])
    output.warning("\x1b[2J")
    output.error(ThetaError("\x1b[2J https://me:p@ss@host/x", hint="\x9b"))
    output_to_git().note("\x1b[2J")
    captured = capsys.readouterr()
    assert captured.out == "\\x1b]0;x\\x07 https://host/x\n\x1b[1mtitle\x1b[m\n"
    assert "[2J" in captured.err
    assert "\x1b[2J" not in captured.err
    assert "\x9b" not in captured.err
    assert "p@ss" not in captured.err
    Output("json").error(ThetaError("https://me:p@ss@host/x"))
    assert "p@ss" not in capsys.readouterr().err


def test_a_line_feed_in_a_name_begins_no_line_of_output(capsys):
    Output("human").result({}, ["added x\nremoved y"])
    Output("human").error(ThetaError("x\nhint: rm y", hint="git add x\nerror: z"))
    captured = capsys.readouterr()
    assert captured.out == "added x\\nremoved y\n"
    assert captured.err == "error: x\n  hint: rm y\nhint: git add x\n  error: z\n"


def test_a_terminal_that_is_gone_is_no_failure(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for gone in (None, closed):
        monkeypatch.setattr(sys, "stderr", gone)
        output_to_git().note("x")
        Output("human").error(ThetaError("x"))
