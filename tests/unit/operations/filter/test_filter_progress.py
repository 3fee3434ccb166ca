from __future__ import annotations

import pytest
from helpers import MODEL, model
from reports import Reports

from git_theta_ext.git.caller import wants_quiet
from git_theta_ext.git.format_process import FormatProcess
from git_theta_ext.git.process import NESTED
from git_theta_ext.operations.filter.clean import CleanRequest
from git_theta_ext.operations.filter.process import FilterProcess
from git_theta_ext.operations.workspace import Workspace


def test_the_filter_shows_what_it_stores(repo):
    data, done = model(1), []
    with Workspace.discover(Reports(), repo.path) as workspace:
        formats = FormatProcess(workspace.repo)
        asked = CleanRequest(workspace, MODEL, formats, done.append)
        asked.content(memoryview(data))
        asked.end()
        asked.close()
        formats.close()
    assert sum(done) == pytest.approx(len(data), rel=0.1)


def test_the_filter_shows_what_it_writes(two, monkeypatch):
    monkeypatch.chdir(two.path)
    monkeypatch.setenv(NESTED, "")  # so that it is not set behind this test
    monkeypatch.delenv(NESTED)
    content = two.git("cat-file", "blob", f"HEAD:{MODEL}").encode() + b"\n"
    two.write(content)
    reports = Reports()
    process = FilterProcess(reports)
    process._remember(MODEL, content)
    two.write(content)  # git writes it when it has the answer
    assert process._finish() == 0
    assert two.read() == model(2)
    total, written = reports.done["writing checkpoints"]
    assert total == pytest.approx(len(model(2)), rel=0.1)
    assert written == pytest.approx(total, rel=0.1)


@pytest.mark.parametrize(
    ("words", "quiet"),
    [
        ([b"git", b"checkout", b"-q", b"main"], True),
        ([b"git", b"-c", b"x.y=1", b"clone", b"--quiet", b"url"], True),
        ([b"git", b"fetch", b"--no-progress"], True),
        ([b"git", b"push", b"-fq", b"origin"], True),
        ([b"git", b"push", b"-uqn"], True),
        ([b"git", b"push", b"-foquick"], False),
        ([b"git", b"checkout", b"-bquick"], False),
        ([b"git", b"add", b"."], False),
        ([b"git", b"checkout", b"--", b"-q"], False),
    ],
)
def test_progress_is_hidden_if_git_was_told_to_be_quiet(tmp_path, words, quiet):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_bytes(b"7 (git) S 1 7 7")
    (tmp_path / "7/cmdline").write_bytes(b"\0".join(words) + b"\0")
    assert wants_quiet(7, tmp_path) == quiet
