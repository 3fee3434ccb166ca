from __future__ import annotations

from git_theta_ext.git.notes import complain_once, warn_once


def test_the_same_warning_is_printed_once_and_controls_no_terminal(capsys):
    for _ in range(2):
        warn_once("cannot lock \x1b[2Jfolder")
    complain_once("note: another line")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["git-theta", "git-theta"]
    assert "warning: cannot lock" in lines[0]
    assert "\x1b" not in lines[0]
