"""The URL and the settings of an object store, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from git_theta_ext.errors import ConfigError

from ._timeout import timeout_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS = {
    "s3": frozenset({"credentials", "endpoint", "region", "timeout"}),
    "gs": frozenset({"credentials", "endpoint", "timeout"}),
    "az": frozenset({"account", "credentials", "endpoint", "timeout"}),
}
"""Scheme of a URL to the settings that it understands."""

_CREDENTIALS = {
    "s3": ("environment", "profile", "imds", "ecs", "anonymous"),
    "gs": ("anonymous",),
    "az": ("environment", "cli", "imds", "anonymous"),
}
"""Scheme to the values of the setting ``credentials``."""

_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{0,254}")
# Both become part of the name of the host that requests are sent to.
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")


@dataclass(frozen=True)
class Location:
    """Where the objects are.

    Attributes:
        url: The URL as it was given, for messages.
        scheme: ``s3``, ``gs`` or ``az``.
        bucket: The bucket, or the container of Azure.
        prefix: What the names of all objects begin with: empty, or with a slash at the end.
        timeout: Time that the server may be silent, in seconds.
        endpoint: URL of the server, if it is not that of the provider.
        region: Region of S3, if it is set.
        account: Account of Azure, if it is set.
        credentials: Value of the setting, if it is set.
    """

    url: str
    scheme: str
    bucket: str
    prefix: str
    timeout: float
    endpoint: str | None = None
    region: str | None = None
    account: str | None = None
    credentials: str | None = None


def locate(url: str, options: Mapping[str, Any]) -> Location:
    """Return where a URL and settings say that the objects are.

    Raises:
        ConfigError: The URL or a setting is not valid.
    """
    parts = urlsplit(url)
    refuse_secrets(url)
    if parts.scheme not in _SETTINGS or not _BUCKET.fullmatch(parts.netloc):
        raise ConfigError(
            f"{url} is not s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
            hint="git config theta.remote.NAME.url URL",
        )
    refuse_unknown(url, options, _SETTINGS[parts.scheme])
    prefix = unquote(parts.path).strip("/")
    if not prefix.isprintable() or (prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/"))):
        raise ConfigError(f"{url}: the prefix is not a relative path", hint="git config theta.remote.NAME.url URL")
    location = Location(
        url,
        parts.scheme,
        parts.netloc,
        f"{prefix}/" if prefix else "",
        timeout_of(url, options),
        options.get("endpoint"),
        options.get("region"),
        options.get("account"),
        options.get("credentials"),
    )
    _check(location)
    return location


def refuse_unknown(url: str, options: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise an error if there is a setting that is not known.

    Raises:
        ConfigError: There is one.
    """
    if unknown := set(options) - known:
        raise ConfigError(
            f"{url}: unknown setting {min(unknown)}", hint=f"git config --unset theta.remote.NAME.{min(unknown)}"
        )


def refuse_secrets(url: str) -> None:
    """Raise an error if a URL has more than a place in it, such as a password or a signature.

    Raises:
        ConfigError: It has.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"{parts.scheme}://…{parts.path}: only a host or bucket and a prefix can be in the URL",
            hint="give credentials in the environment, and the rest as theta.remote.NAME.endpoint and .region",
        )


def _check(location: Location) -> None:
    words = _CREDENTIALS[location.scheme]
    if location.credentials is not None and location.credentials not in words:
        raise ConfigError(
            f"{location.url}: credentials of {location.credentials!r} are not one of {', '.join(words)}",
            hint="git config --unset theta.remote.NAME.credentials",
        )
    if location.region is not None and not _REGION.fullmatch(location.region):
        raise ConfigError(f"{location.url}: a region consists of a-z, 0-9 and hyphens, such as eu-central-1")
    if location.account is not None and not _ACCOUNT.fullmatch(location.account):
        raise ConfigError(f"{location.url}: the name of an Azure account consists of 3 to 24 of a-z and 0-9")
    if location.endpoint is not None:
        parts = urlsplit(location.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query:
            raise ConfigError(
                f"{location.url}: the endpoint is not https://host, or has a user name, a password or a query in it",
                hint="git config theta.remote.NAME.endpoint https://HOST",
            )
