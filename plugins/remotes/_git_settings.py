"""The settings of git that apply to requests of HTTP and to LFS servers."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from git_theta_ext.protocol.lfs.endpoints import instead_of, match_length

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import GitCommands

_WANTED = r"^(http|lfs|url|core)\.|^remote\..*\.(lfsurl|lfspushurl|proxy)$"
_LFSCONFIG = ".lfsconfig"
_LARGEST = 1 << 16
# Everyone who can push to a branch can change the file: no other key of it is used.
_SAFE = re.compile(r"lfs\.(url|pushurl|locksverify)|remote\..+\.lfsurl", re.DOTALL)
_FALSE = frozenset({"false", "no", "off", "0", ""})

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GitSettings:
    """Settings, read once.

    Attributes:
        own: Key and value of git's configuration, the weakest scope first.
        tracked: Those of the tracked file ``.lfsconfig`` that are safe.
        environment: The environment of git.
    """

    own: Pairs = ()
    tracked: Pairs = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, git: GitCommands) -> GitSettings:
        """Read the settings of a repository."""
        own = _pairs(git.run("config", "-z", "--get-regexp", _WANTED, check=False))
        tracked = tuple(pair for pair in _pairs(_read_lfsconfig(git)) if _SAFE.fullmatch(pair[0]))
        return cls(own, tracked, git.environment())

    def text(self, *keys: str) -> str | None:
        """Return the first of some settings that is set; git's configuration precedes ``.lfsconfig``."""
        for pairs in (self.own, self.tracked):
            for key in keys:
                values = [value for name, value in pairs if name == key]
                if values and values[-1]:
                    return values[-1]
        return None

    def for_url(self, key: str, url: str, section: str = "http") -> list[str]:
        """Return the values of ``http.<key>`` and ``http.<url>.<key>`` that apply to a URL; an empty one resets them.

        Of the URLs in settings, the ones that fit best count.
        """
        section += "."
        best, values = 0, list[str]()
        for name, value in self.own:
            if not name.startswith(section) or name.rpartition(".")[2] != key:
                continue
            pattern = name[len(section) : -len(key) - 1]
            fit = match_length(pattern, url) if pattern else 0
            if fit is None or fit < best:
                continue
            best = fit
            values = [*values, value] if value else []
        return values

    def flag(self, key: str, url: str, *, default: bool) -> bool:
        """Return a boolean that applies to a URL."""
        values = self.for_url(key, url)
        return values[-1].lower() not in _FALSE if values else default

    def locks_verify(self, url: str) -> bool | None:
        """Return ``lfs.<url>.locksverify`` or ``lfs.locksverify``; None if neither is set."""
        values = self.for_url("locksverify", url, "lfs")
        value = values[-1] if values else self.text("lfs.locksverify")
        return None if value is None else value.lower() not in _FALSE

    def rewritten(self, address: str) -> str:
        """Return an address after ``url.<base>.insteadOf``."""
        ending = ".insteadof"
        rules = [(name[4 : -len(ending)], value) for name, value in self.own if re.fullmatch(r"url\..*" + ending, name)]
        return instead_of(address, rules)


def _pairs(output: bytes) -> Pairs:
    items = output.decode(errors="surrogateescape").split("\0")[:-1]
    return tuple((key, value) for key, _, value in (item.partition("\n") for item in items))


def _read_lfsconfig(git: GitCommands) -> bytes:
    path = git.folder / _LFSCONFIG
    with suppress(OSError):
        if path.is_file() and not path.is_symlink():
            if path.stat().st_size > _LARGEST:
                return b""
            return git.run("config", "-z", "--no-includes", "--file", str(path), "--list", check=False)
    for blob in (f":{_LFSCONFIG}", f"HEAD:{_LFSCONFIG}"):
        size = git.run("cat-file", "-s", blob, check=False).strip()
        if size and int(size) <= _LARGEST:
            return git.run("config", "-z", "--no-includes", "--blob", blob, "--list", check=False)
    return b""
