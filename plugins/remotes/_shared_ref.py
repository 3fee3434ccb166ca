"""A ref of a git remote that every push adds a commit to, whatever others push at the same time.

The ref is ``refs/theta/<name>``. If the remote refuses it, as some hosts refuse all refs but branches and tags, the
branch ``theta/<name>`` takes its place. Readers look at both. A commit has the last one as parent, so that git itself
refuses the slower of two pushes, which then adds its commit to that of the other.
"""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING

from git_theta_ext.errors import RemoteError
from git_theta_ext.interfaces import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.interfaces import GitCommands

    from ._bare_repository import BareRepository

_ROUNDS = 12
_FETCH = ("fetch", "--quiet", "--depth=1", "--no-tags", "--prune", "--no-write-fetch-head", "--no-recurse-submodules")
_PUSH = ("push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no")
_REJECTED = re.compile(r"^!\t[^\t]*\t(.*)$", re.MULTILINE)
_WORDS = re.compile(r"^remote: (.*\S)", re.MULTILINE)
_MOST_WORDS = 300
_NO_ROOM = re.compile(r"unpacker error|unpack failed")
_RACE = re.compile(
    r"fetch first|non-fast-forward|cannot lock ref|failed to lock|failed to update ref|incorrect old value"
    r"|already exists|stale info|remote ref updated|needs force",
    re.IGNORECASE,
)
_EMPTY = re.compile(r"no matching remote head")
"""An empty repository on a server that speaks version 0 of git's protocol, as behind ssh without ``GIT_PROTOCOL``."""
_DAMAGE = re.compile(r"corrupt|bad object|unable to read|not a git repository|missing (blob|tree|commit)|garbage")


class SharedRef:
    """A ref of a git remote, and the last commit of it.

    Args:
        git: The local repository.
        bare: The repository that commits are fetched into and pushed from.
        name: The last part of the ref's name.
        branch: Whether to use a branch from the start.
        sent: Called with the number of bytes that a push has sent so far.
    """

    def __init__(
        self,
        git: GitCommands,
        bare: BareRepository,
        name: str,
        *,
        branch: bool = False,
        sent: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._git = git
        self._sent = sent
        self._bare = bare
        self._name = name
        self._ref, self._branch = f"refs/theta/{name}", f"refs/heads/theta/{name}"
        self._refs = (self._branch,) if branch else (self._ref, self._branch)

    def fetch(self) -> None:
        """Bring the last commit.

        Raises:
            RemoteError: The remote cannot be reached.
        """
        refspecs = [f"+{ref}*:{ref}*" for ref in (self._ref, self._branch)]
        code, _, words = self._bare.connect(_FETCH, *refspecs)
        if code and _DAMAGE.search(words):
            self._bare.renew()
            code, _, words = self._bare.connect(_FETCH, *refspecs)
        if (code == 1 and not words) or (code and _EMPTY.search(words)):  # so git says that there is nothing to fetch
            for ref in self.tips():
                self._bare.run("update-ref", "-d", ref)
        elif code:
            raise self._bare.error(words)

    def tips(self) -> dict[str, str]:
        """Return the last commit by ref, as of the last fetch or push."""
        listed = self._bare.run("for-each-ref", "--format=%(refname) %(objectname)", self._ref, self._branch)
        commits = dict(line.split(" ") for line in listed.decode().splitlines())
        return {ref: commits[ref] for ref in (self._ref, self._branch) if ref in commits}

    def add(self, make: Callable[[str | None], str | None]) -> None:
        """Add a commit to the ref on the remote.

        Args:
            make: Makes a commit whose parent is the last one, or the first one; returns None if none is needed.
                It is called again if another push was faster.

        Raises:
            RemoteError: The remote refuses, or cannot be reached.
        """
        # A mirror clone has the ref itself. Git pushes it after us, and would find that it has changed.
        mirrored = self._git.run("for-each-ref", "--format=%(refname)", self._ref, check=False)
        refused = [self._ref] if mirrored else []
        why = ""
        for number in range(_ROUNDS):
            if number:
                time.sleep(random.random() * min(number, 5) / 2)  # noqa: S311 - no secret
                self.fetch()
            tips = self.tips()
            ref = next((ref for ref in (*tips, *self._refs) if ref not in refused), None)
            if ref is None:
                break
            commit = make(tips.get(ref))
            if commit is None:
                return
            reason = self._push(commit, ref)
            if reason is None:
                self._bare.run("update-ref", ref, commit)
                return
            if not _RACE.search(reason):
                refused.append(ref)
                why = reason
        else:
            raise RemoteError(
                f"{self._bare.url}: other pushes changed the {self._name} {_ROUNDS} times during this one",
                hint="git push tries again; uploaded packs are kept",
            )
        raise RemoteError(
            f"{self._bare.url} takes no {self._name} of parameters: it refuses {' and '.join(refused)}: {why}",
            hint=f"allow pushes to the branch theta/{self._name}",
        )

    def _push(self, commit: str, ref: str) -> str | None:
        """Push a commit, and return why the remote refuses it.

        Raises:
            RemoteError: The remote cannot be reached.
        """
        code, output, words = self._bare.push(_PUSH, f"{commit}:{ref}", self._sent)
        if code == 0:
            return None
        match = _REJECTED.search(output)
        if match is None:
            raise self._bare.error(words)
        said = redacted("; ".join(_WORDS.findall(words)))[:_MOST_WORDS]
        reason = f"{match[1]}: {said}" if said else match[1]
        if _NO_ROOM.search(match[1]):  # whatever the ref is
            raise RemoteError(
                f"{self._bare.url} cannot store {self._name} of parameters: {reason}",
                hint="make room on the remote, or raise its limit on the size of a push; git push tries again",
            )
        return reason
