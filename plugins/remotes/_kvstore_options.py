"""Convert a remote's URL and settings to the specification that tensorstore opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from git_theta_ext.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPTIONS = frozenset({"endpoint", "region", "credentials", "timeout"})
_RETRIES = {"max_retries": 1}
"""The number of times that tensorstore retries a request; callers retry too."""


def spec_of(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensorstore's JSON specification of a key-value store.

    Raises:
        ConfigError: The URL or a setting is not valid.
    """
    parts = urlsplit(url)
    if unknown := set(options) - _OPTIONS:
        raise ConfigError(
            f"{url}: unknown setting {min(unknown)}", hint=f"git config --unset theta.remote.NAME.{min(unknown)}"
        )
    if parts.username or parts.query or parts.fragment:
        raise ConfigError(
            f"{parts.scheme}://…{parts.path}: only a bucket and a prefix can be in the URL",
            hint="give credentials in the environment, and the rest as theta.remote.NAME.endpoint and .region",
        )
    path = unquote(parts.path).lstrip("/").rstrip("/")
    path = path + "/" if path else ""
    if parts.scheme == "file" and not parts.netloc and path:
        return {"driver": "file", "path": "/" + path}
    if parts.scheme == "gs" and parts.netloc:
        return {
            "driver": "gcs",
            "bucket": parts.netloc,
            "path": path,
            "context": {"gcs_request_retries": _RETRIES},
        }
    if parts.scheme == "s3" and parts.netloc:
        spec = {"driver": "s3", "bucket": parts.netloc, "path": path, "context": {"s3_request_retries": _RETRIES}}
        if "endpoint" in options:
            spec["endpoint"] = options["endpoint"]
        if "region" in options:
            spec["aws_region"] = options["region"]
        if "credentials" in options:
            spec["aws_credentials"] = {"type": options["credentials"]}
        return spec
    raise ConfigError(
        f"{url} is not s3://bucket/prefix, gs://bucket/prefix or file:///directory",
        hint="git config theta.remote.NAME.url URL",
    )
