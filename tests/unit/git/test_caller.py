import mmap
import os
import shutil
import subprocess
import sys

import pytest

from git_theta_ext.git.answer_script import FILTER_COMMAND
from git_theta_ext.git.caller import _is_dry, calling_command, holds_open, runs_filter

FILTER = """\
import os
import sys
from pathlib import Path
from git_theta_ext.git.caller import holds_open
from git_theta_ext.protocol.filter import *

connection, buffer = Connection(), memoryview(bytearray(1 << 16))
answers = {{Welcome: connection.send_welcome, Capabilities: connection.send_capabilities}}
while True:
    for event in connection.receive(buffer[: os.readv(0, [buffer])]):
        if isinstance(event, EndOfInput):
            sys.exit()
        if isinstance(event, Request):
            held = holds_open(os.stat(event.pathname), os.getppid())
            with Path({log!r}).open("a") as log:
                print(event.command, event.pathname, held, file=log)
        if isinstance(event, EndOfContent):
            os.write(1, connection.send_success(b"manifest"))
        if type(event) in answers:
            os.write(1, answers[type(event)]())
"""


@pytest.fixture
def work(tmp_path):
    """Return a function that runs git in a repository with a filter, and what the filter found out."""
    folder = tmp_path / "repo"
    folder.mkdir()
    log = tmp_path / "log"
    script = tmp_path / "filter.py"
    script.write_text(FILTER.format(log=str(log)))

    def git(*args, **options):
        log.unlink(missing_ok=True)
        subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, **options)
        return log.read_text().split("\n")[:-1] if log.exists() else []

    git("init", "-q")
    git("config", "filter.probe.process", f"'{sys.executable}' '{script}'")
    git("config", "filter.probe.required", "true")
    (folder / ".gitattributes").write_text("*.pt filter=probe\n")
    (folder / "m.pt").write_bytes(b"model" * 100_000)
    return git


@pytest.mark.parametrize("required", ["true", "false"])
def test_git_add_reads_the_file_that_it_names(work, required):
    work("config", "filter.probe.required", required)
    assert work("add", "m.pt") == ["clean m.pt True"]


def test_git_diff_maps_the_file_that_it_names(work, tmp_path):
    work("add", "m.pt")
    (tmp_path / "repo" / "m.pt").write_bytes(b"other" * 200_000)
    lines = work("diff")
    assert lines
    assert set(lines) == {"clean m.pt True"}


def test_a_shell_may_stand_between(work, tmp_path):
    command = subprocess.check_output(["git", "config", "filter.probe.process"], cwd=tmp_path / "repo", text=True)
    work("config", "filter.probe.process", f"{command.strip()}; exit")
    assert work("add", "m.pt") == ["clean m.pt True"]


def test_the_filter_may_be_a_command_that_another_git_finds(work, tmp_path):
    script = tmp_path / "bin" / "git-probe"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\n" + (tmp_path / "filter.py").read_text())
    script.chmod(0o755)
    work("config", "filter.probe.process", "git probe")
    path = f"{script.parent}:{os.environ['PATH']}"
    assert work("add", "m.pt", env={**os.environ, "PATH": path}) == ["clean m.pt True"]


@pytest.mark.parametrize("name", ["git.real", "another"])
def test_git_may_have_another_name(work, tmp_path, name):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(shutil.which("git"), folder / name)
    top = tmp_path / "repo"
    subprocess.run([folder / name, "add", "m.pt"], cwd=top, check=True)
    subprocess.run([folder / name, "hash-object", "--path", "m.pt", "--stdin"], cwd=top, check=True, input=b"else")
    assert (tmp_path / "log").read_text() == "clean m.pt True\nclean m.pt False\n"


def test_content_from_elsewhere_is_not_taken_for_the_file(work):
    assert work("hash-object", "--path", "m.pt", "--stdin", input=b"something else") == ["clean m.pt False"]


def test_an_editor_that_has_the_file_open_does_not_count(work, tmp_path):
    with (tmp_path / "repo" / "m.pt").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert not holds_open(os.fstat(file.fileno()), os.getpid())
        assert work("hash-object", "--path", "m.pt", "--stdin", input=b"something else") == ["clean m.pt False"]


class Proc:
    """A /proc of our own."""

    def __init__(self, root):
        self.root = root

    def process(self, pid, name="git", parent=1, *, opened=(), maps="", words=()):
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "stat").write_text(f"{pid} ({name}) S {parent} 1 1\n")
        (folder / "maps").write_text(maps)
        (folder / "cmdline").write_text("".join(f"{word}\0" for word in words))
        for number, path in enumerate(opened):
            (folder / "fd" / str(number)).symlink_to(path)


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path / "proc")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "my model.pt"
    path.write_bytes(b"model")
    return path


def test_four_generations_count_and_the_fifth_does_not(proc, model):
    for pid in range(11, 15):
        proc.process(pid, "sh", pid - 1)
    proc.process(10, "git", 9, opened=["/dev/null", model])
    assert holds_open(model.stat(), 13, proc.root)
    assert not holds_open(model.stat(), 14, proc.root)


def test_a_mapped_file_counts_whatever_device_is_shown(proc, model):
    line = f"7f00-7f01 r--p 00000000 00:2a {model.stat().st_ino}    {model}\n"
    proc.process(10, maps="7f02-7f03 rw-p 00000000 00:00 0\n" + line)
    assert holds_open(model.stat(), 10, proc.root)


def test_another_file_with_the_same_inode_number_does_not_count(proc, model, tmp_path):
    other = tmp_path / "other.pt"
    other.write_bytes(b"other")
    proc.process(10, opened=[other], maps=f"7f00-7f01 r--p 0 00:2a {model.stat().st_ino} {other}\n")
    assert not holds_open(model.stat(), 10, proc.root)


@pytest.mark.parametrize("name", ["bash", "git-theta", "gitk", "a) (git"])
def test_only_git_counts(proc, model, name):
    proc.process(10, name, opened=[model])
    assert not holds_open(model.stat(), 10, proc.root)


def test_a_process_that_is_gone_or_odd_does_not_count(proc, model):
    assert not holds_open(model.stat(), 10, proc.root)
    proc.process(10, opened=[model.with_name("closed meanwhile")], maps="odd\n")
    assert not holds_open(model.stat(), 10, proc.root)
    (proc.root / "10" / "stat").write_text("odd")
    assert not holds_open(model.stat(), 10, proc.root)


def test_what_may_not_be_read_does_not_count(proc, model):
    proc.process(10, opened=[])
    (proc.root / "10" / "fd").rmdir()
    (proc.root / "10" / "maps").unlink()
    assert not holds_open(model.stat(), 10, proc.root)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["git", "diff", "--stat"], "diff"),
        (["/usr/lib/git-core/git", "diff-files", "-p"], "diff-files"),
        (["git", "-c", "a.b=c", "-C", "diff", "--no-pager", "--git-dir=x", "add", "diff"], "add"),
        (["git", "--attr-source", "diff", "status"], "status"),
        (["git", "-c", "diff"], None),
        (["git"], None),
        ([], None),
    ],
)
def test_the_command_is_the_first_word_that_is_no_option(proc, words, command):
    proc.process(9, "git", words=words)
    proc.process(10, "sh", 9, words=["sh", "-c", "git theta filter-process"])
    proc.process(11, "git", 10, words=["git", "theta", "filter-process"])
    assert calling_command(11, proc.root) == command


@pytest.mark.parametrize("name", ["vim", "git-add", "python3"])
def test_what_stands_above_something_else_is_not_the_caller(proc, name):
    proc.process(9, "git", words=["git", "diff"])
    proc.process(10, name, 9, words=[name])
    proc.process(11, "git", 10, words=["git", "theta", "filter-process"])
    assert calling_command(11, proc.root) is None


def test_a_caller_that_is_gone_has_no_command(proc):
    assert calling_command(10, proc.root) is None
    proc.process(10)
    (proc.root / "10" / "cmdline").unlink()
    assert calling_command(10, proc.root) is None


@pytest.mark.parametrize(
    ("words", "dry"),
    [
        ("--dry-run", True),
        ("-n", True),
        ("-qn", True),
        ("--dry", True),
        ("--dry-run --no-dry-run", False),
        ("-q", False),
        ("-o -n", False),
        ("-on", False),
        ("--delete --no-verify", False),
        ("-- -n", False),
    ],
)
def test_a_push_that_only_shows_what_it_would_do_is_known(words, dry):
    assert _is_dry([word.encode() for word in words.split()]) is dry


def test_a_hook_of_a_dry_push_is_known_through_what_runs_it(tmp_path):
    subprocess.run(["git", "init", "-q", "-b", "main", "top"], cwd=tmp_path, check=True)
    subprocess.run(["git", "init", "-q", "--bare", "bare.git"], cwd=tmp_path, check=True)
    top = tmp_path / "top"
    subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "x"], cwd=top, check=True)
    script = tmp_path / "probe.py"
    script.write_text("import os\nfrom git_theta_ext.git.caller import pushes_dry\nprint(pushes_dry(os.getppid()))\n")
    hook = top / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    inner = f"sh -c '{sys.executable} {script}; true'; true"
    hook.write_text(f'#!/bin/sh\nbash -c "{inner}" >"{tmp_path}/said"; true\n')
    hook.chmod(0o755)
    for words in (["push", "--dry-run"], ["-c", "alias.p=push -n", "p"], ["push"]):
        subprocess.run(["git", *words, "../bare.git", "main"], cwd=top, check=True, capture_output=True)
        assert (tmp_path / "said").read_text() == f"{words != ['push']}\n"


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (("python", "/opt/bin/git-theta", "filter-process"), True),
        (("sh", "-c", FILTER_COMMAND, FILTER_COMMAND), True),
        (("python", "/opt/bin/git-theta", "merge-driver", "a"), False),
        (("/git-theta/git-lfs", "filter-process"), False),
        ((), False),
    ],
)
def test_a_filter_among_the_children_of_a_git_is_found(proc, words, ours):
    proc.process(10)
    for thread, child in (("10", "11"), ("12", "13 14")):
        (proc.root / "10/task" / thread).mkdir(parents=True)
        (proc.root / "10/task" / thread / "children").write_text(f"{child} ")
    proc.process(11, "git", 10, words=["git", "cat-file"])
    proc.process(14, "python", 10, words=words)  # 13 has ended
    assert runs_filter(10, proc.root) is ours


def test_without_a_list_of_children_no_filter_is_known(proc):
    proc.process(10)
    assert not runs_filter(10, proc.root)
    assert not runs_filter(11, proc.root)
