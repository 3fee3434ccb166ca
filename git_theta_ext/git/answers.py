"""Keep answers to calls that git's merge driver and diff driver will get, and give them.

Git starts a driver for each file. What one call merges or compares for other files is kept in
``$GIT_DIR/theta/merging/answers`` and ``$GIT_DIR/theta/diffing/answers``. A later call takes it if it comes from the
same git process, with the same path and the same versions of the file, and it takes it only once, as a git process can
merge more than once. Every other call merges or compares as if nothing had been kept.

A call that takes an answer needs this module and no other, so this module imports as little as possible.
"""

from __future__ import annotations

import os
from binascii import crc32

TYPE_CHECKING = False  # importing typing takes longer than an answer
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MERGES = ("theta", "merging", "answers")
_DIFFS = ("theta", "diffing", "answers")
DRAFTS = ("theta", "merging", "drafts")
_WORDS = 5
_DIFF_WORDS = (7, 9)
_DIFF_SIDES = ((1, 2, 3), (4, 5, 6))
"""The places of file, object id and mode of either version among the words of a diff driver."""
_OUTPUT = 1
_MERGED = ".merged"
_SHELLS = (b"sh", b"dash", b"bash", b"busybox")
_GENERATIONS = 3
_BOOT = "/proc/sys/kernel/random/boot_id"


def take_answer(words: Sequence[str]) -> int | None:
    """Answer a call of the merge driver if its answer was kept: replace our file, and return the exit code.

    Args:
        words: The arguments of the merge driver: the values of ``%O %A %B %L %P``.

    Returns:
        None if no answer was kept for this call; then our file is unchanged.
    """
    try:
        git = calling_git()
        if git is None or len(words) != _WORDS:
            return None
        base, ours, theirs, marker_size, path = words
        folder = os.path.join(_git_dir(), *_MERGES, git)
        name = os.path.join(folder, _name(path))
        kept = _read(name)
        # A version that is longer than all that was asked is another one, and may be a file of any size.
        versions = [_read(file, len(kept)) for file in (base, ours, theirs)]
        if kept[:-1] != _question(path, marker_size, versions):
            return None
        os.unlink(name)
        os.replace(name + _MERGED, ours)
    except (OSError, ValueError):  # ValueError: an argument cannot be encoded as it was
        return None
    _remove_if_empty(folder)
    return int(kept[-1:])


def keep_answer(  # noqa: PLR0913 - named, and an answer has these parts
    git_dir: str, git: str, *, path: str, marker_size: str, versions: Sequence[bytes], merged: bytes, code: int
) -> None:
    """Keep the answer to a call that the merge driver will get.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process that will make the call, as ``calling_git`` returns it.
        path: The value of ``%P``.
        marker_size: The value of ``%L``.
        versions: The content of the common ancestor's, our and their file.
        merged: The content of the merged file.
        code: The exit code, 0 or 1.

    Raises:
        OSError: It cannot be written.
    """
    folder = os.path.join(git_dir, *_MERGES, git)
    os.makedirs(folder, exist_ok=True)
    name = os.path.join(folder, _name(path))
    # A killed process may leave the answer without the question, and never the other way round.
    for file, content in (
        (name + _MERGED, merged),
        (name, _question(path, marker_size, versions) + b"%d" % code),
    ):
        with open(file, "wb") as opened:
            opened.write(content)


class Kept:
    """An answer that is kept; see ``keep_answer``.

    Attributes:
        file: The file with the question.
        merged: The file with the merged file.
    """

    def __init__(self, file: str) -> None:
        self.file, self.merged = file, file + _MERGED
        kept = _read(file)
        parts = []
        for _ in range(_WORDS):
            length, _, kept = kept.partition(b"\n")
            parts.append(kept[: int(length)])
            kept = kept[int(length) :]
        self.path, self.marker_size, self.code = os.fsdecode(parts[0]), os.fsdecode(parts[1]), int(kept)
        self.versions = parts[2:]


def kept_answers(git_dir: str, git: str) -> Iterator[Kept]:
    """Yield the answers that are kept for a git process; see ``keep_answer``.

    Raises:
        OSError: They cannot be read.
        ValueError: The end of one was not written.
    """
    folder = os.path.join(git_dir, *_MERGES, git)
    for name in os.listdir(folder):
        if not name.endswith(_MERGED):
            yield Kept(os.path.join(folder, name))


def has_answer(git_dir: str, git: str, path: str) -> bool:
    """Return whether an answer is kept for a path; see ``keep_answer``."""
    return os.path.exists(os.path.join(git_dir, *_MERGES, git, _name(path)))


def take_text(words: Sequence[str]) -> int | None:
    """Answer a call of the diff driver if its answer was kept: print the text, and return the exit code.

    Args:
        words: The arguments of the diff driver: path, old file, old id, old mode, new file, and so on.

    Returns:
        None if no answer was kept for this call; then nothing is printed.
    """
    try:
        git = calling_git()
        if git is None or len(words) not in _DIFF_WORDS:
            return None
        folder = os.path.join(_git_dir(), *_DIFFS, git)
        name = os.path.join(folder, _name(words[0]))
        kept = _read(name)
        question = diff_question(words)
        head, _, text = kept[len(question) :].partition(b"\n")
        code, nbytes = map(int, head.split())
        if not kept.startswith(question) or len(text) != nbytes:
            return None
        os.unlink(name)
        _print(text)
    except (OSError, ValueError):
        return None
    _remove_if_empty(folder)
    return code


def keep_text(  # noqa: PLR0913 - named, and an answer has these parts
    git_dir: str, git: str, *, path: str, question: bytes, text: bytes, code: int
) -> str:
    """Keep the answer to a call that the diff driver will get.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process that will make the call, as ``calling_git`` returns it.
        path: The first argument of the call.
        question: What ``diff_question`` returned for the call before the versions were read.
        text: What the call prints.
        code: Its exit code.

    Returns:
        The file with the answer, which the text ends.

    Raises:
        OSError: It cannot be written.
    """
    folder = os.path.join(git_dir, *_DIFFS, git)
    os.makedirs(folder, exist_ok=True)
    name = os.path.join(folder, _name(path))
    with open(name, "wb") as opened:
        opened.write(b"%b%d %d\n%b" % (question, code, len(text), text))
    return name


def diff_question(words: Sequence[str]) -> bytes:
    """Return what an answer of the diff driver belongs to: the paths, and an id or the stat data of either version.

    Args:
        words: As for ``take_text``. The name of a file counts only if it has no object id.

    Raises:
        OSError: A file without an object id does not exist.
    """
    parts = [words[0], *words[7:8]]
    for file, oid, mode in _DIFF_SIDES:
        parts += [words[oid], words[mode]]
        if not words[oid].strip("0"):
            stat = os.lstat(words[file])
            parts.append(f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}")
    return b"".join(b"%d\n%b" % (len(part), part) for part in map(os.fsencode, parts))


def _print(text: bytes) -> None:
    view = memoryview(text)
    try:
        while view:
            view = view[os.write(_OUTPUT, view) :]
    except BrokenPipeError:
        pass  # the reader has seen enough, as with `| head`; git notices by itself


def drop_answers(git_dir: str) -> None:
    """Remove the answers and drafts that are kept for git processes which have ended.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
    """
    for kind in (_MERGES, _DIFFS, DRAFTS):
        top = os.path.join(git_dir, *kind)
        try:
            for git in os.listdir(top):
                if not _runs(git):
                    for name in os.listdir(os.path.join(top, git)):
                        os.unlink(os.path.join(top, git, name))
                    _remove_if_empty(os.path.join(top, git))
        except OSError:
            continue  # there are none, or another process removes them


def _runs(git: str) -> bool:
    """Return whether a process whose name ``calling_git`` returned still runs."""
    try:
        return _process(int(git.partition("-")[0]))[2] == git
    except (OSError, ValueError, IndexError):
        return False


def calling_git(above: int = 0) -> str | None:
    """Return a name of the git process that runs this driver; None if it is not certain.

    No other process has this name, not even after the machine was restarted.

    Args:
        above: Number of processes between that git and this driver, besides shells: git runs a program that is not its
            own, such as a merge strategy, in another git.
    """
    try:
        pid = os.getppid()
        for _ in range(_GENERATIONS):
            program, parent, name = _process(pid)
            if program not in _SHELLS and not above:
                return name
            above -= program not in _SHELLS
            pid = parent
    except (OSError, ValueError, IndexError):
        pass
    return None


def _process(pid: int) -> tuple[bytes, int, str]:
    """Return the program of a process, its parent, and its name, which no other process ever has."""
    # The line is "pid (program) state parent ..." with the start time in field 22; the program may have parentheses.
    head, _, tail = _read(f"/proc/{pid}/stat").rpartition(b")")
    fields = tail.split()
    return head.partition(b"(")[2], int(fields[1]), f"{pid}-{int(fields[19])}-{_read(_BOOT).decode().strip()}"


def _git_dir() -> str:
    """Return the ``$GIT_DIR`` of a work tree from whose top git runs this process."""
    named = os.environ.get("GIT_DIR")
    if named or os.path.isdir(".git"):
        return named or ".git"
    return os.fsdecode(_read(".git").removeprefix(b"gitdir: ").removesuffix(b"\n"))


def _name(path: str) -> str:
    return f"{crc32(os.fsencode(path)):08x}"


def _question(path: str, marker_size: str, versions: Sequence[bytes]) -> bytes:
    """Return what an answer belongs to."""
    parts = (os.fsencode(path), os.fsencode(marker_size), *versions)
    return b"".join(b"%d\n%b" % (len(part), part) for part in parts)


def _read(name: str, most: int = -1) -> bytes:
    with open(name, "rb") as file:
        return file.read(most)


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass
