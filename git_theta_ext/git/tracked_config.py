"""The settings in ``.thetaconfig``: where the parameters of a repository are, for everyone who clones it.

The file has the syntax of git's configuration and is read from the work tree, or else the index, or else HEAD. Everyone
who can push to a branch can change it. So only a few keys are used, none of which runs a program or holds a secret. An
address must not be a directory of the machine that reads the file: a push would write there.
"""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from git_theta_ext.config import Config, RemoteSettings
from git_theta_ext.errors import ConfigError, RepositoryError
from git_theta_ext.records import dataclass
from git_theta_ext.settings import STRICT
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository

FILE = ".thetaconfig"
_LARGEST = 1 << 16
_SSH = ("ssh", "sftp")
_SAFE = re.compile(
    r"theta\.((remote\..+\.)?(url|account|endpoint|region|type)|remote\..+\.partsize|fetch\.(include|exclude)|strict)",
    re.DOTALL,
)


@dataclass(frozen=True)
class TrackedConfig:
    """The settings in the file.

    Attributes:
        place: Where the file was read: the work tree, the index or HEAD.
        config: The settings that are used.
        ignored: The keys that are not used.
        edit: The command that edits the file.
    """

    place: str
    config: Config
    ignored: tuple[str, ...]
    edit: str

    def remote(self, name: str) -> RemoteSettings:
        """Return the settings of a remote: ``theta.remote.<name>``, and without a URL also ``theta`` for all remotes.

        Raises:
            ConfigError: An address has a password, is invalid, or is a directory of this machine.
        """
        settings = self.config.remote(name)
        if settings.url is None:
            shared = self.config.for_all()
            settings = RemoteSettings(shared.url, {**shared.options, **settings.options})
        shown = "NAME" if re.search("[:/]", name) else shell_word(name)  # an address may have a password
        if settings.url is not None:
            self._check(settings.url, f"git config theta.remote.{shown}.url")
        if "endpoint" in settings.options:
            endpoint, command = settings.options["endpoint"], f"git config theta.remote.{shown}.endpoint"
            self._check(endpoint, command)
            _check_tokens(settings.url or "", endpoint, command)
        return settings

    def _check(self, address: str, command: str) -> None:
        try:
            parts = urlsplit(address)
            # A login over ssh needs a key or a password besides the name of a user.
            names_user = parts.username is not None and parts.scheme.lower() not in _SSH
            secret = names_user or parts.password is not None
        except ValueError as error:
            raise ConfigError(f"{FILE} has an address that cannot be parsed: {error}", hint=self.edit) from error
        if secret:
            raise ConfigError(
                f"{FILE} has an address with a user name or a password, which everyone with the repository can read",
                hint=f"{self.edit}, and change the password",
            )
        if not parts.netloc or parts.scheme.lower() in ("", "file"):
            raise ConfigError(
                f"{FILE} names the address {address}; a tracked file must not choose a directory on this machine",
                hint=f"{command} {shell_word(address)}",
            )


def read_tracked(repo: Repository) -> TrackedConfig | None:
    """Read the file; return None if there is none.

    Raises:
        ConfigError: It is not a valid configuration file, or too large.
    """
    if repo.worktree is not None:
        with suppress(OSError):
            status = (repo.worktree / FILE).lstat()
            if stat.S_ISREG(status.st_mode):
                return _parsed(repo, "work tree", ("--file", str(repo.worktree / FILE)), status.st_size)
    for place, rev in (("index", None), ("HEAD", "HEAD")):
        entry = repo.entry(rev, FILE)
        if entry is not None and entry.regular:
            return _parsed(repo, place, ("--blob", entry.oid), int(repo.run("cat-file", "-s", entry.oid)))
    return None


def is_strict(repo: Repository) -> bool:
    """Return ``theta.strict``, from git's settings or else ``.thetaconfig``.

    Raises:
        ConfigError: It is not a boolean.
    """
    key = STRICT.key
    if key in repo.config.values:
        return repo.config.flag(key, default=False)
    tracked = read_tracked(repo)
    return tracked is not None and tracked.config.flag(key, default=False)


def _parsed(repo: Repository, place: str, source: tuple[str, str], nbytes: int) -> TrackedConfig:
    edit = f"{repo.git_at_top} config -f {FILE} --edit"
    if nbytes > _LARGEST:
        raise ConfigError(f"{FILE} ({place}) has {nbytes} bytes, which exceeds the limit of {_LARGEST}", hint=edit)
    try:
        listed = Config.parse(repo.run("config", "-z", "--no-includes", *source, "--list"))
    except RepositoryError as error:
        raise ConfigError(f"{FILE} ({place}): {error.message}", hint=edit) from error
    safe = {key: values for key, values in listed.values.items() if _SAFE.fullmatch(key)}
    return TrackedConfig(place, Config(safe), tuple(key for key in listed.values if key not in safe), edit)


def _check_tokens(url: str, endpoint: str, command: str) -> None:
    # Requests to S3 are signed. Those to the others contain a token, by which their receiver could do the same.
    if urlsplit(url).scheme.lower() in {"gs", "az"}:
        raise ConfigError(
            f"{FILE} names the endpoint {endpoint} for {url}; a tracked file must not choose who gets an access token",
            hint=f"{command} {shell_word(endpoint)}",
        )
