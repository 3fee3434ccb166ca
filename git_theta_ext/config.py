"""Settings from ``git config``, typed and checked."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.errors import ConfigError
from git_theta_ext.records import dataclass
from git_theta_ext.settings import (
    CHAIN_DEPTH,
    CLUSTER,
    CLUSTER_REMOTE,
    GC_AUTO,
    GC_GRACE,
    MAX_CHAIN_DEPTH,
    MERGE_DEVICE,
    MERGE_METHOD,
    MERGE_OPTIONS,
    MERGE_REPLAY,
    THREADS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.settings import Setting

# For `git config --get-regexp`: all settings that any command reads, in one process.
CONFIG_REGEXP = (
    r"^(theta|remote|branch|(filter|diff|merge|hook)\.theta(-record)?)\."
    r"|^core\.(hookspath|filemode|fsync|sharedrepository)$|^(extensions\.partialclone|push\.default|pager\..*)$"
)

FORMER_MERGE_OPTIONS = "theta.merge.with"
"""The name of ``theta.merge.options`` in earlier versions; it still counts."""

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off", ""})
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_SUFFIXES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_bool(text: str | None) -> bool | None:
    """Read a boolean as git does; None if git would complain.

    Args:
        text: The value; None is a key without ``=``, which git takes as true.
    """
    if text is None:
        return True
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    number = parse_int(word)
    return None if number is None else number != 0


def parse_int(text: str) -> int | None:
    """Read an integer with git's suffixes k, m and g; None if it is not one."""
    word = text.strip().lower()
    scale = _SUFFIXES.get(word[-1:], 1)
    if scale != 1:
        word = word[:-1]
    return int(word) * scale if _INTEGER.fullmatch(word) else None


@dataclass(frozen=True)
class RemoteSettings:
    """The settings ``theta.remote.<name>.*`` of one remote.

    Attributes:
        url: Where its packs are; None if that follows from the git remote's address.
        options: Every other key, lower-case, as the remote plug-ins take them, for example ``endpoint``.
    """

    url: str | None
    options: Mapping[str, str]


@dataclass(frozen=True)
class Config:
    """A repository's settings.

    Attributes:
        values: Key (section and variable in lower case, as git prints them) to its values, the weakest scope first;
            None is a key without a value.
    """

    values: Mapping[str, tuple[str | None, ...]]

    @classmethod
    def parse(cls, data: bytes) -> Config:
        """Read what ``git config -z --get-regexp`` prints."""
        values: dict[str, tuple[str | None, ...]] = {}
        for item in data.decode(errors="surrogateescape").split("\0")[:-1]:
            key, equals, value = item.partition("\n")
            values[key] = (*values.get(key, ()), value if equals else None)
        return cls(MappingProxyType(values))

    def text(self, key: str) -> str | None:
        """Return the value that counts, or None if the key is not set.

        Raises:
            ConfigError: The key has no value.
        """
        if key not in self.values:
            return None
        value = self.values[key][-1]
        if value is None:
            raise ConfigError(f"{key} is set without a value", hint=f"git config {key} VALUE")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return all values of a setting that can be set several times.

        Raises:
            ConfigError: One of them is set without a value.
        """
        self.text(key)
        return tuple(value for value in self.values.get(key, ()) if value is not None)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean.

        Raises:
            ConfigError: The value is not a boolean.
        """
        if key not in self.values:
            return default
        value = self.values[key][-1]
        boolean = parse_bool(value)
        if boolean is None:
            raise ConfigError(f"{key} is {value!r}, which is not a boolean", hint=f"git config {key} true")
        return boolean

    def number(self, setting: Setting) -> int:
        """Return an integer, not below 0.

        Raises:
            ConfigError: The value is not a non-negative integer.
        """
        value = self.text(setting.key.lower())
        number = parse_int(setting.default if value is None else value)
        if number is None or number < 0:
            raise ConfigError(
                f"{setting.key} is {value!r}, which is not a non-negative integer",
                hint=f"git config {setting.key} {setting.default}",
            )
        return number

    @property
    def threads(self) -> int:
        """``theta.threads``; 0 means one for each core."""
        return self.number(THREADS)

    @property
    def fsync_index(self) -> bool:
        """Whether ``core.fsync`` includes the index, so that what it says of files survives a power cut."""
        wanted = False
        for word in (self.text("core.fsync") or "").split(","):
            part = word.strip().lower()
            if part == "none":
                wanted = False
            elif part.removeprefix("-") in {"index", "added", "all"}:
                wanted = not part.startswith("-")
        return wanted

    @property
    def merge_override(self) -> tuple[str, ...]:
        """``theta.merge.method`` and ``theta.merge.options``, as words like those of ``GIT_THETA_MERGE``."""
        options = self.former_merge_options or self.text(MERGE_OPTIONS.key)
        method = self.text(MERGE_METHOD.key)
        return (*([f"method={method}"] if method else []), *(options or "").split())

    @property
    def former_merge_options(self) -> str | None:
        """``theta.merge.with``, if it is what sets the options of merges."""
        return None if MERGE_OPTIONS.key in self.values else self.text(FORMER_MERGE_OPTIONS)

    @property
    def merge_replay(self) -> str | None:
        """``theta.merge.replay``: the method, with options, by which changes are replayed; or ``rules``."""
        return self.text(MERGE_REPLAY.key)

    @property
    def merge_device(self) -> str:
        """``theta.merge.device``: ``auto``, ``cpu``, ``cuda`` (all CUDA devices) or ``cuda:N``."""
        return self.text(MERGE_DEVICE.key) or MERGE_DEVICE.default

    @property
    def cluster(self) -> str | None:
        """``theta.cluster``: where jobs run; None if work is not divided into jobs."""
        return self.text(CLUSTER.key)

    @property
    def cluster_remote(self) -> str | None:
        """``theta.clusterRemote``: the git remote through which jobs exchange tensors; None without jobs."""
        return None if self.cluster is None else self.text(CLUSTER_REMOTE.key.lower())

    @property
    def shares_store(self) -> bool:
        """Whether there are jobs, and all of them can use the store of the repository."""
        return self.cluster is not None and self.cluster_remote is None

    @property
    def chain_depth(self) -> int:
        """``theta.chainDepth``: the longest chain of deltas that recoding makes."""
        return min(self.number(CHAIN_DEPTH), MAX_CHAIN_DEPTH)

    @property
    def gc_auto(self) -> int:
        """``theta.gcAuto``: stored bytes added since the last gc after which the next starts; 0 disables it."""
        return self.number(GC_AUTO)

    @property
    def gc_worth(self) -> int:
        """Stored bytes added since the last gc that are worth the time of the next, even if none starts by itself."""
        return self.gc_auto or parse_int(GC_AUTO.default) or 0

    @property
    def gc_grace(self) -> int:
        """``theta.gcGrace``: days for which unreachable tensors are kept."""
        return self.number(GC_GRACE)

    @property
    def git_remotes(self) -> tuple[str, ...]:
        """The names of git's remotes, in the order of the configuration."""
        names = (key[len("remote.") : key.rindex(".")] for key in self.values if key.startswith("remote."))
        return tuple(dict.fromkeys(name for name in names if f"remote.{name}.url" in self.values))

    def for_all(self) -> RemoteSettings:
        """Return the settings for all remotes: ``theta.url``, ``.account``, ``.endpoint``, ``.region`` and ``.type``.

        Raises:
            ConfigError: One of them has no value.
        """
        values = {key: self.text(f"theta.{key}") for key in ("account", "endpoint", "region", "type")}
        options = {key: value for key, value in values.items() if value is not None}
        return RemoteSettings(self.text("theta.url"), MappingProxyType(options))

    def remote(self, name: str) -> RemoteSettings:
        """Return the settings of one remote.

        Raises:
            ConfigError: One of its keys has no value.
        """
        prefix = f"theta.remote.{name}."
        values = {key[len(prefix) :]: self.text(key) or "" for key in self.values if key.startswith(prefix)}
        options = {key: value for key, value in values.items() if "." not in key}
        url = options.pop("url", None)
        return RemoteSettings(url, MappingProxyType(options))
