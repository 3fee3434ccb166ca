"""Where a remote is, as a value that other processes can open it by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.records import dataclass, field
from git_theta_ext.registry import find_remote, remote_of_scheme
from git_theta_ext.transfer.meter import Meter
from git_theta_ext.transfer.remote_index import OpenedRemote
from git_theta_ext.util.text import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces.remotes import GitCommands, RemoteType


@dataclass(frozen=True)
class RemotePlace:
    """Where a remote is.

    Attributes:
        name: Name of the git remote, or its address if it has no name.
        address: The address of the git remote.
        url: URL of the packs.
        scheme: The scheme of that URL, in lower case; empty for a path.
        type: Name of the plug-in; None for that of the scheme.
        options: The settings for the plug-in.
    """

    name: str
    address: str
    url: str
    scheme: str = ""
    type: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The URL without credentials."""
        return redacted(self.url)

    def plugin(self) -> RemoteType:
        """Return the plug-in that opens it.

        Raises:
            PluginError: There is none.
        """
        return find_remote(self.type) if self.type else remote_of_scheme(self.scheme)

    def opened(self, git: GitCommands | None = None) -> OpenedRemote:
        """Open it.

        Args:
            git: The local repository; None if there is none, as on a worker.

        Raises:
            ConfigError: The plug-in does not understand the URL or a setting.
            PluginError: There is no plug-in for it.
        """
        meter = Meter()
        context = RemoteContext(self.name, self.address, git, meter)
        return OpenedRemote(self.name, self.shown, self.plugin().open(self.url, self.options, context), meter)
