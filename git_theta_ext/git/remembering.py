"""A repository that asks git the same question once, and starts few processes to ask.

It is for a driver, which handles many files while git waits.
"""

from __future__ import annotations

import posixpath
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.git.entries import TreeEntry
from git_theta_ext.git.kept_process import KeptProcess
from git_theta_ext.git.objects import named_objects, object_reader, read_objects
from git_theta_ext.git.path_attributes import DRIVER_ATTRIBUTES
from git_theta_ext.git.repository import Repository
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from subprocess import Popen

    from typing_extensions import Buffer

_SAME = frozenset({"check-attr", "config", "ls-tree", "merge-base"})
"""Commands whose answers do not change while a driver runs: it changes neither HEAD, nor attributes, nor settings."""
_INFOS = ("cat-file", "--batch-check", "--buffer")
_FIND = ("rev-parse", "--quiet", "--verify", "--end-of-options")
_ATTRIBUTES = ("check-attr", "-z", "--stdin")


@dataclass(frozen=True)
class RememberingRepository(Repository):
    """Remembers what git answered, for as long as nothing else changes the repository."""

    _answers: dict[object, bytes] = field(default_factory=dict, compare=False, repr=False)
    _listed: dict[tuple[str, str], Sequence[TreeEntry]] = field(default_factory=dict, compare=False, repr=False)
    _values: dict[bytes, dict[str, bytes]] = field(default_factory=dict, compare=False, repr=False)
    _readers: list[Popen[bytes]] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def of(cls, repo: Repository) -> RememberingRepository:
        """Return a repository as one that remembers, with the settings that were read; the caller closes it."""
        remembering = cls(
            repo.git_dir, repo.common_dir, repo.worktree, repo.index_path, repo.object_format, repo.prefix
        )
        vars(remembering).update(vars(repo))
        return remembering

    def close(self) -> None:
        """End the processes that were started."""
        self._infos.close()
        self._attributes.close()
        while self._readers:
            _end(self._readers.pop())

    def run(
        self,
        *args: str,
        input: Buffer | None = None,  # noqa: A002 - as Repository
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> bytes:
        """Run git here, or return what it would print; see ``Repository.run``."""
        data = None if input is None else bytes(input)
        if not env and not cwd:
            if args == _INFOS and data is not None:
                return b"".join(line + b"\n" for line in self._infos.ask(data.split(b"\n")[:-1]))
            if args[:-1] == _FIND and "\n" not in args[-1]:
                return self._find(args[-1])
            if args[:-1] == _ATTRIBUTES and args[-1] in DRIVER_ATTRIBUTES and data is not None:
                return self._attribute(args[-1], data.split(b"\0")[:-1])
        if args[0] not in _SAME or env or cwd:
            return super().run(*args, input=input, check=check, env=env, cwd=cwd)
        question = args, data, check
        if question not in self._answers:
            self._answers[question] = super().run(*args, input=input, check=check)
        return self._answers[question]

    @contextmanager
    def reading(self) -> Iterator[Popen[bytes]]:
        """Return a context with a ``git cat-file --batch``, which is kept for the next one."""
        process = self._readers.pop() if self._readers else object_reader(self)
        whole = False
        try:
            yield process
            whole = True
        finally:
            # If the caller stopped early, the rest of the output would be taken for the next answer.
            self._readers.append(process) if whole else _end(process)

    def directory(self, rev: str, path: str) -> Sequence[TreeEntry]:
        """List the entries of one directory in a commit or a tree; see ``Repository.directory``."""
        if (rev, path) not in self._listed:
            tree = None if "\n" in rev + path else named_objects(self, [f"{rev}:{path}"])[0]
            if tree is None or tree[1].kind != "tree":
                self._listed[rev, path] = super().directory(rev, path)
            else:
                [(_, data)] = read_objects(self, [tree[0]])
                self._listed[rev, path] = list(_entries(data, f"{path}/" if path else "", self.oid_bytes))
        return self._listed[rev, path]

    def entry(self, rev: str | None, path: str) -> TreeEntry | None:
        """Return the entry at a path; see ``Repository.entry``."""
        if rev is None:
            return super().entry(rev, path)
        return next((entry for entry in self.directory(rev, posixpath.dirname(path)) if entry.path == path), None)

    def _find(self, name: str) -> bytes:
        found = named_objects(self, [name])[0]
        return b"" if found is None else f"{found[0]}\n".encode()

    def _attribute(self, name: str, paths: Sequence[bytes]) -> bytes:
        new = [path for path in dict.fromkeys(paths) if path not in self._values]
        fields = self._attributes.ask(new)
        for number, path in enumerate(new):
            of_path = fields[3 * len(DRIVER_ATTRIBUTES) * number :][: 3 * len(DRIVER_ATTRIBUTES)]
            self._values[path] = dict(zip(DRIVER_ATTRIBUTES, of_path[2::3], strict=True))
        return b"".join(b"%b\0%b\0%b\0" % (path, name.encode(), self._values[path][name]) for path in paths)

    @cached_property
    def _infos(self) -> KeptProcess:
        return KeptProcess(self, ("cat-file", "--batch-check"), end=b"\n", fields=1)

    @cached_property
    def _attributes(self) -> KeptProcess:
        # All of them at once: git reads each `.gitattributes` for each process.
        return KeptProcess(self, (*_ATTRIBUTES, *DRIVER_ATTRIBUTES), end=b"\0", fields=3 * len(DRIVER_ATTRIBUTES))


def _entries(tree: bytes, folder: str, oid_bytes: int) -> Iterator[TreeEntry]:
    """Yield the entries of a tree object: mode and name, a null byte, and the object id."""
    start = 0
    while start < len(tree):
        end = tree.index(b"\0", start)
        mode, _, name = tree[start:end].partition(b" ")
        start = end + 1 + oid_bytes
        path = folder + name.decode(errors="surrogateescape")
        yield TreeEntry(path, tree[end + 1 : start].hex(), mode.decode().zfill(6))


def _end(process: Popen[bytes]) -> None:
    process.kill()
    process.communicate()
