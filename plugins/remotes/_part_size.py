"""The setting for how large the parts of a pack may be: git blobs, or objects of an LFS server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MB = 10**6
LARGE_BLOB = 90 * _MB  # GitHub and GitLab allow 100 MiB, Azure Repos 100 MB
SMALL_BLOB = 9 * _MB  # Hugging Face allows 10 MB
LFS_OBJECT = 1900 * _MB  # GitHub allows 2 GB
_LEAST, _MOST = 1 << 10, 2000 * _MB
_SIZE = re.compile(r"([1-9][0-9]{0,11})([kmg]?)", re.IGNORECASE)
_SCALE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def part_size_of(url: str, options: Mapping[str, Any], default: int) -> int:
    """Return the maximum size of a part in bytes.

    Args:
        url: The address of the remote, for messages.
        options: The settings of the remote.
        default: The size if there is no setting.

    Raises:
        ConfigError: The setting is not a size.
    """
    if "partsize" not in options:
        return default
    match = _SIZE.fullmatch(str(options["partsize"]))
    size = int(match[1]) * _SCALE[match[2].lower()] if match else 0
    if not _LEAST <= size <= _MOST:
        raise ConfigError(
            f"{url}: a part size of {options['partsize']!r} is not a size between 1k and 2000000000 bytes",
            hint="git config theta.remote.NAME.partSize 40m",
        )
    return size
