"""The setting for how large the git blobs of a pack may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MB = 10**6
_DEFAULT = 90 * _MB  # GitHub and GitLab allow 100 MiB, Azure Repos 100 MB
_SMALL = 9 * _MB  # Hugging Face allows 10 MB
_LEAST, _MOST = 1 << 10, 2000 * _MB
_SIZE = re.compile(r"([1-9][0-9]{0,11})([kmg]?)", re.IGNORECASE)
_SCALE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def part_size_of(url: str, options: Mapping[str, Any], *, small: bool) -> int:
    """Return the maximum size of a blob in bytes.

    Args:
        url: The address of the remote, for messages.
        options: The settings of the remote.
        small: Whether the default is that for hosts with a low limit.

    Raises:
        ConfigError: The setting is not a size.
    """
    if "partsize" not in options:
        return _SMALL if small else _DEFAULT
    match = _SIZE.fullmatch(str(options["partsize"]))
    size = int(match[1]) * _SCALE[match[2].lower()] if match else 0
    if not _LEAST <= size <= _MOST:
        raise ConfigError(
            f"{url}: a part size of {options['partsize']!r} is not a size between 1k and 2000000000 bytes",
            hint="git config theta.remote.NAME.partSize 40m",
        )
    return size
