"""The shell that answers the checkout of a git process that has merged, given a program that speaks git's protocol."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from threading import Timer

import pytest
from helpers import become_git

from git_theta_ext.git.answer_script import CHECKOUTS, FILTER_COMMAND, drop_scripts
from git_theta_ext.git.answers import calling_git
from git_theta_ext.git.objects import blob_id
from git_theta_ext.operations.merge.checkout_script import LARGEST, MergedFile, write_checkout
from git_theta_ext.protocol.pktline import FLUSH, MAX_PAYLOAD, encode_content, encode_list

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="scripts need the process table")

MANIFEST = b"git-theta manifest 1\nformat opaque\n"
FILES = [
    MergedFile("a.bin", MANIFEST + b"a\n", b"\0a\nb\xff"),
    MergedFile("b/large.bin", MANIFEST + b"b\n", bytes(range(256)) * 600),
    MergedFile("c.bin", MANIFEST + b"c" * MAX_PAYLOAD + b"\n", b""),
]
SHELLS = [
    name
    for name in ("sh", "bash", "busybox sh", "dash", "ksh", "mksh", "yash -o posix", "zsh --emulate sh")
    if shutil.which(name.split()[0])
]
PATIENCE = 20
"""Seconds after which a filter that does not answer is killed, so that the test fails."""


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the top of a work tree in which this process is the git, with a script."""
    become_git(tmp_path, monkeypatch)
    assert write_checkout(Path(".git"), calling_git() or "", "sha1", FILES) == {file.path for file in FILES}
    return tmp_path


def request(path: bytes, manifest: bytes, *lines: bytes, command: bytes = b"smudge", oid: str | None = None) -> bytes:
    """Return a request as git sends it."""
    blob = (oid or blob_id(manifest, "sha1")).encode()
    return encode_list([b"command=" + command, b"pathname=" + path, *lines, b"blob=" + blob]) + encode_content(manifest)


class Git:
    """The side of git: it sends a list, and waits for the answer."""

    def __init__(self, shell: str = "sh") -> None:
        command = [*shell.split(), "-c", FILTER_COMMAND]
        self.filter = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.timer = Timer(PATIENCE, self.filter.kill)
        self.timer.start()

    def list(self) -> list[bytes]:
        """Read packets until a flush packet."""
        assert self.filter.stdout is not None
        packets = []
        while (header := self.filter.stdout.read(4)) != FLUSH:
            assert len(header) == 4, "the filter ended its answer"
            packets.append(self.filter.stdout.read(int(header, 16) - 4))
        return packets

    def send(self, data: bytes) -> None:
        assert self.filter.stdin is not None
        self.filter.stdin.write(data)
        self.filter.stdin.flush()

    def begin(self, *capabilities: bytes, versions: tuple[bytes, ...] = (b"version=2",)) -> None:
        self.send(encode_list([b"git-filter-client", *versions]))
        assert self.list() == [b"git-filter-server\n", b"version=2\n"]
        self.send(encode_list(b"capability=" + name for name in (b"clean", b"smudge", *capabilities)))
        assert self.list() == [b"capability=clean\n", b"capability=smudge\n"]

    def ask(self, data: bytes) -> bytes:
        """Send a request, and return the content that the filter gives."""
        self.send(data)
        assert self.list() == [b"status=success\n"]
        content = b"".join(self.list())
        assert self.list() == []
        return content

    def end(self) -> int:
        assert self.filter.stdin is not None
        self.filter.stdin.close()
        assert self.rest() == b""
        return self.filter.wait()

    def rest(self) -> bytes:
        """Return what the filter sends until it ends."""
        assert self.filter.stdout is not None
        with self.filter.stdout as pipe:
            rest = pipe.read()
        self.timer.cancel()
        return rest


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("capabilities", [(), (b"delay",)])
@pytest.mark.parametrize("lines", [(), (b"treeish=" + b"1" * 40,), (b"ref=refs/heads/x", b"treeish=1")])
def test_the_shell_gives_files(
    top: Path, capabilities: tuple[bytes, ...], lines: tuple[bytes, ...], shell: str
) -> None:
    git = Git(shell)
    git.begin(*capabilities)
    for file in [*FILES, FILES[0]]:
        more = [b"can-delay=1"] if capabilities else []
        blob = blob_id(file.manifest, "sha1").encode()
        head = [b"command=smudge", b"pathname=" + file.path.encode(), *lines, b"blob=" + blob, *more]
        assert git.ask(encode_list(head) + encode_content(file.manifest)) == file.content
    assert git.end() == 0
    assert [*top.joinpath(".git", *CHECKOUTS).iterdir()] == []


OTHER = MANIFEST + b"other\n"
UNKNOWN = {
    "another path": request(b"other.bin", OTHER),
    "another version": request(b"a.bin", MANIFEST + b"z\n"),
    "another object id": request(b"a.bin", FILES[0].manifest, oid="1" * 40),
    "converted content": request(b"a.bin", FILES[0].manifest + b"\r\n", oid=blob_id(FILES[0].manifest, "sha1")),
    "a new line of a request": request(b"a.bin", FILES[0].manifest, b"new=1"),
    "a path of two lines": request(b"a.bin\nb.bin", OTHER),
    "a path that is not UTF-8": request(b"\xff'\"\\ .bin", OTHER),
    "no object id": encode_list([b"command=smudge", b"pathname=a.bin"]) + encode_content(FILES[0].manifest),
    "an empty file": request(b"a.bin", b""),
    "a manifest to clean": request(b"a.bin", b"git-theta manifest 1\n", command=b"clean"),
    "many packets": request(b"large", OTHER + b"x" * 3 * MAX_PAYLOAD),
}


@pytest.mark.parametrize(
    ("what", "answered"), [(what, 2) for what in UNKNOWN] + [("another path", 0), ("another path", 3)]
)
def test_python_gets_what_the_shell_cannot_answer(top: Path, what: str, answered: int) -> None:
    git = Git("bash" if answered else "sh")
    git.begin(b"delay")
    for file in FILES[:answered]:
        assert git.ask(request(file.path.encode(), file.manifest)) == file.content
    git.send(UNKNOWN[what])
    if what == "a manifest to clean":  # without the lines that a manifest has
        assert git.list() == [b"status=error\n"]
    else:
        sent = UNKNOWN[what]
        assert git.list() == [b"status=success\n"]
        content = b"".join(git.list())
        assert encode_content(content) == sent[-len(encode_content(content)) :]
        assert git.list() == []
    assert git.ask(request(b"last.bin", OTHER)) == OTHER
    git.end()
    assert [*top.joinpath(".git", *CHECKOUTS).iterdir()] == []


@pytest.mark.usefixtures("top")
@pytest.mark.parametrize("capabilities", [(b"list",), (b"delay", b"new")])
def test_python_gets_another_list_of_capabilities(capabilities: tuple[bytes, ...]) -> None:
    git = Git()
    git.begin(*capabilities)
    assert git.ask(request(b"a.bin", FILES[0].manifest)) == FILES[0].manifest
    assert git.end() == 0


def test_python_gets_another_greeting(top: Path) -> None:
    git = Git()
    git.begin(versions=(b"version=1", b"version=2"))
    assert git.ask(request(b"a.bin", FILES[0].manifest)) == FILES[0].manifest
    assert git.end() == 0


STREAM = b"".join(
    [
        encode_list([b"git-filter-client", b"version=2"]),
        encode_list([b"capability=clean", b"capability=smudge", b"capability=delay"]),
        request(b"a.bin", FILES[0].manifest),
    ]
)


@pytest.mark.usefixtures("top")
@pytest.mark.parametrize("size", [0, 1, 4, 20, 22, 36, 40, 61, 83, 104, 108, 127, 140, 200, len(STREAM) - 5])
def test_a_stream_that_ends_early_ends_the_filter(size: int) -> None:
    git = Git()
    git.send(STREAM[:size])
    assert git.filter.stdin is not None
    git.filter.stdin.close()
    git.rest()
    assert git.filter.wait() >= 0  # else it was killed


def test_another_process_with_the_same_number_gets_no_files(top: Path) -> None:
    script = top.joinpath(".git", *CHECKOUTS, str(os.getpid()))
    _, start, boot = (calling_git() or "").split("-", 2)
    text = script.read_text()
    for old, new in ((start, "1"), (boot, boot[::-1])):
        script.write_text(text.replace(old, new))
        git = Git()
        git.begin()
        assert git.ask(request(b"a.bin", FILES[0].manifest)) == FILES[0].manifest
        git.end()


def test_scripts_of_processes_that_have_ended_are_removed(top: Path) -> None:
    folder = top.joinpath(".git", *CHECKOUTS)
    ended = subprocess.Popen(["true"])
    ended.wait()
    for entry in [*folder.iterdir()]:
        entry.rename(folder / entry.name.replace(str(os.getpid()), str(ended.pid)))
    drop_scripts(Path(".git"))
    assert [*folder.iterdir()] == []


@pytest.mark.usefixtures("top")
def test_a_process_keeps_its_first_script() -> None:
    assert write_checkout(Path(".git"), calling_git() or "", "sha1", FILES[:1]) == set()


@pytest.mark.parametrize("path", ["it's.bin", "a b.bin", "-a.bin", "*.bin", "a\nb.bin", "\udcff.bin", "x" * 501])
def test_odd_paths_are_left_to_python(tmp_path: Path, path: str) -> None:
    assert write_checkout(tmp_path, f"{os.getpid()}-1-boot", "sha1", [MergedFile(path, MANIFEST, b"")]) == set()
    assert [*tmp_path.iterdir()] == []


def test_large_and_many_files_are_left_to_python(tmp_path: Path) -> None:
    large = bytes(LARGEST)
    files = [MergedFile(f"{n}.bin", MANIFEST, large) for n in range(9)]
    git = f"{os.getpid()}-1-boot"
    assert write_checkout(tmp_path, git, "sha256", [MergedFile("l.bin", MANIFEST, large + b"0"), *files]) == {
        file.path for file in files[:8]
    }
