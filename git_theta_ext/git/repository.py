"""A git repository: the paths of its parts, and the git commands that run in it.

The filter, the drivers and the hooks use this module, so it starts plain ``git`` processes and imports little.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from git_theta_ext.config import CONFIG_REGEXP, Config
from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.alternates import object_folders
from git_theta_ext.git.entries import TreeEntry, index_entry, tree_entry
from git_theta_ext.git.objects import object_reader, read_manifests
from git_theta_ext.git.process import run_git
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.quoting import shell_word, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from subprocess import Popen

    from typing_extensions import Buffer

    from git_theta_ext.model.manifest import Manifest

_QUESTIONS = ("--absolute-git-dir", "--git-common-dir", "--git-path", "index", "--show-object-format", "--show-prefix")
_ANSWERS = 5


@dataclass(frozen=True)
class Repository:
    """The paths of a repository's parts; all are absolute.

    Attributes:
        git_dir: ``$GIT_DIR``; a linked work tree has its own.
        common_dir: Shared by all work trees; contains the store.
        worktree: The top of the work tree; None in a bare repository.
        index_path: The index that git currently uses.
        object_format: ``sha1`` or ``sha256``.
        prefix: The user's directory relative to the top, with a slash at its end; empty at the top.
    """

    git_dir: Path
    common_dir: Path
    worktree: Path | None
    index_path: Path
    object_format: Literal["sha1", "sha256"]
    prefix: str = field(default="", compare=False)

    @classmethod
    def discover(cls, cwd: Path | None = None, *, env: Mapping[str, str] | None = None) -> Repository:
        """Ask git, in one process, which repository a directory belongs to.

        Args:
            cwd: The directory; the current one if None.
            env: The whole environment; pass ``foreign_environment()`` for a repository other than the current one.

        Raises:
            RepositoryError: There is no repository, or git does not trust it.
        """
        args = ("rev-parse", "--path-format=absolute", *_QUESTIONS, "--show-toplevel")
        # Exit code 128: there is no work tree. The values before the top level are printed nevertheless.
        lines = run_git(args, cwd=cwd, env=env, ok=(0, 128)).decode(errors="surrogateescape").split("\n")[:-1]
        if len(lines) not in (_ANSWERS, _ANSWERS + 1):
            lines = _ask_one_by_one(cwd, env)
        git_dir, common_dir, index_path, object_format, prefix = lines[:_ANSWERS]
        worktree = Path(lines[_ANSWERS]) if len(lines) > _ANSWERS else None
        # Git runs filters, drivers, hooks and aliases at the top, and says in the environment where the user is.
        prefix = prefix or (os.environ if env is None else env).get("GIT_PREFIX", "")
        return cls(
            Path(git_dir),
            Path(common_dir),
            worktree,
            Path(index_path),
            "sha256" if object_format == "sha256" else "sha1",
            prefix,
        )

    @property
    def folder(self) -> Path:
        """The directory in which git commands run: the top of the work tree, or the bare repository."""
        return self.worktree or self.git_dir

    @property
    def oid_bytes(self) -> int:
        """Length of an object id in bytes."""
        return 32 if self.object_format == "sha256" else 20

    @property
    def theta_dir(self) -> Path:
        """The store's directory."""
        return self.common_dir / "theta"

    @property
    def git_at_top(self) -> str:
        """The beginning of a command in a hint that must run at the top of the work tree."""
        up = os.path.relpath("/", f"/{self.prefix}")
        return f"git -C {up}" if self.prefix else "git"

    def relative(self, path: str) -> str:
        """Return a path below the top as the user sees it from the current directory."""
        return os.path.relpath(f"/{path}", f"/{self.prefix}")

    def shown(self, path: str) -> str:
        """Return a path below the top for people: relative to the current directory, in git's quotes if need be."""
        return shown_path(self.relative(path))

    def argument(self, path: str) -> str:
        """Return a path as the argument of a command in a hint: as the user types it, quoted for the shell.

        Args:
            path: Relative to the top of the work tree.
        """
        relative = self.relative(path)
        # Git takes a leading hyphen for an option, and a colon for a magic pathspec.
        return shell_word(f"./{relative}" if relative.startswith(("-", ":")) else relative)

    def environment(self) -> dict[str, str]:
        """Return the environment for git in ``folder``.

        Relative paths in it, which ``git --git-dir`` and hooks set, are made absolute.
        """
        env = dict(os.environ)
        if "GIT_DIR" in env:
            env["GIT_DIR"] = str(self.git_dir)
            if self.worktree is not None:
                env["GIT_WORK_TREE"] = str(self.worktree)
        if "GIT_INDEX_FILE" in env:
            env["GIT_INDEX_FILE"] = str(self.index_path)
        return env

    def run(
        self,
        *args: str,
        input: Buffer | None = None,  # noqa: A002 - subprocess.run's word for it
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> bytes:
        """Run git here and return what it prints.

        Args:
            args: The arguments after ``git``.
            input: Its standard input; empty if None.
            check: Whether a non-zero exit is an error.
            env: Variables that are added to ``environment()``.
            cwd: A directory other than ``folder``, for paths that a user typed there.

        Raises:
            RepositoryError: Git failed; the message is git's.
        """
        full = {**self.environment(), **(env or {})}
        return run_git(args, cwd=cwd or self.folder, data=input, env=full, ok=(0,) if check else None)

    @contextmanager
    def reading(self) -> Iterator[Popen[bytes]]:
        """Return a context with a ``git cat-file --batch``."""
        with object_reader(self) as process:
            try:
                yield process
            finally:
                process.kill()

    @cached_property
    def config(self) -> Config:
        """The settings, read once.

        Raises:
            RepositoryError: A configuration file is broken.
        """
        args = ("config", "-z", "--get-regexp", CONFIG_REGEXP)
        # Exit code 1: nothing is set.
        return Config.parse(run_git(args, cwd=self.folder, env=self.environment(), ok=(0, 1)))

    def alternates(self) -> tuple[Path, ...]:
        """Return the store directories of the repositories that this one borrows objects from."""
        return tuple(objects.parent / "theta" for objects in object_folders(self.common_dir / "objects", self.folder))

    def entries(self, rev: str | None) -> list[TreeEntry]:
        """List the files of a commit, or of the index if ``rev`` is None.

        Raises:
            RepositoryError: There is no such commit.
        """
        if rev is None:
            lines = self.run("ls-files", "-s", "-z").decode(errors="surrogateescape").split("\0")[:-1]
            return [index_entry(line) for line in lines]
        try:
            text = self.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", rev)
        except RepositoryError as error:
            raise RepositoryError(f"{rev}: {error.message}", hint="git log --oneline --all lists commits") from error
        return [tree_entry(line) for line in text.decode(errors="surrogateescape").split("\0")[:-1]]

    def directory(self, rev: str, path: str) -> Sequence[TreeEntry]:
        """List the entries of one directory in a commit or a tree, without those of its subdirectories.

        Args:
            rev: The commit or tree.
            path: The directory, relative to the top; empty for the top. One that does not exist has no entries.

        Raises:
            RepositoryError: There is no such commit.
        """
        text = self.run("ls-tree", "-z", "--full-tree", "--end-of-options", rev, *([f"{path}/"] if path else []))
        return [tree_entry(line) for line in text.decode(errors="surrogateescape").split("\0")[:-1]]

    def directories(self, revs: Sequence[str], path: str) -> list[Sequence[TreeEntry]]:
        """List one directory in each of some commits or trees; see ``directory``."""
        return [self.directory(rev, path) for rev in revs]

    def entry(self, rev: str | None, path: str) -> TreeEntry | None:
        """Return the entry at a path in a commit, or in the index if ``rev`` is None; None if there is none."""
        if rev is None:
            listed = self.run("ls-files", "-s", "-z", "--", f":(top,literal){path}", check=False)
        else:
            listed = self.run("ls-tree", "-z", "--full-tree", "--end-of-options", rev, path, check=False)
        read = index_entry if rev is None else tree_entry
        entries = map(read, listed.decode(errors="surrogateescape").split("\0")[:-1])
        return next((entry for entry in entries if not entry.stage), None)

    def manifests(self, rev: str | None, known: Iterable[tuple[str, Manifest]] = ()) -> dict[str, tuple[str, Manifest]]:
        """Return the manifests of a commit, or of the index (stage 0) if ``rev`` is None.

        Args:
            rev: The commit.
            known: Object ids and manifests that were read already.

        Returns:
            Path to object id and manifest.

        Raises:
            RepositoryError: There is no such commit.
            ManifestError: A manifest is broken; the message names its path.
        """
        listed = [entry for entry in self.entries(rev) if entry.regular and entry.stage == 0]
        parsed = dict(known)
        parsed |= read_manifests(self, {entry.oid: entry.path for entry in listed if entry.oid not in parsed})
        return {entry.path: (entry.oid, parsed[entry.oid]) for entry in listed if entry.oid in parsed}


def _ask_one_by_one(cwd: Path | None, env: Mapping[str, str] | None) -> list[str]:
    """Query the paths of a repository one by one, as they may have line breaks, or report why there is none."""

    def ask(*question: str, ok: tuple[int, ...] = (0,)) -> bytes:
        return run_git(("rev-parse", "--path-format=absolute", *question), cwd=cwd, env=env, ok=ok)

    try:
        answers = [ask("--absolute-git-dir")]
    except RepositoryError as error:
        # If git does not trust the repository, its message has the command that allows it.
        hint = None if "safe.directory" in error.message else "git init, or change to a directory of a repository"
        if "safe.bareRepository" in error.message:
            hint = "git --git-dir=DIRECTORY theta COMMAND"
        raise RepositoryError(error.message, hint=hint) from error
    answers += [ask("--git-common-dir"), ask("--git-path", "index"), ask("--show-object-format"), ask("--show-prefix")]
    answers.append(ask("--show-toplevel", ok=(0, 128)))
    return [os.fsdecode(answer.removesuffix(b"\n")) for answer in answers if answer]
