"""Amazon S3 and compatible servers, Google Cloud Storage and Azure Blob Storage, through obstore."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError
from git_theta_ext.interfaces import RemoteType, require

from ._aws import credentials, endpoint_of, region_of
from ._object_options import locate
from ._objects import ObjectStore
from ._requests import Connection, Requests, client_options, signed_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.interfaces import RemoteContext

    from ._object_options import Location

_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
_AZURE_KEYS = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_ID",
)


def open_remote(url: str, options: Mapping[str, Any], context: RemoteContext) -> ObjectStore:
    """Open the store at ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://container/prefix``.

    Args:
        url: The URL, without credentials. They are in the environment and in the files of the provider.
        options: ``endpoint`` (URL of a server that is not the provider's), ``timeout`` (the time in seconds that a
            server may be silent), ``credentials`` (where to look for them), for S3 ``region``, for Azure ``account``.
        context: Has the environment, in which credentials are looked for.

    Raises:
        ConfigError: The URL or an option is not valid.
        LibraryError: obstore is not installed.
    """
    location, environment = locate(url, options), context.git.environment() if context.git else {}
    if location.scheme == "az":
        location = _with_account(location, environment)
    require("obstore", f"the remote {url}")
    connect = _CONNECT[location.scheme]
    requests = Requests(url, location.timeout, lambda: connect(location, environment), signed_address)
    cache = context.git.common_dir / "theta" / "remotes" / "heads" if context.git else None
    return ObjectStore(requests, location.prefix, context.report, cache)


REMOTE = RemoteType(("s3", "gs", "az"), open_remote)


def _s3(location: Location, environment: Mapping[str, str]) -> Connection:
    from obstore.store import S3Store

    arguments, tried = credentials(location.url, location.credentials, environment)
    region = location.region or (None if location.endpoint else region_of(location.bucket, environment))
    location = replace(location, endpoint=location.endpoint or endpoint_of(environment))
    if location.endpoint:
        arguments["endpoint"] = location.endpoint
    if region:
        arguments["region"] = region
    return _connection(S3Store, location, arguments, tried)


def _gcs(location: Location, _: Mapping[str, str]) -> Connection:
    from obstore.store import GCSStore

    arguments: dict[str, Any] = {"base_url": location.endpoint} if location.endpoint else {}
    if location.credentials == "anonymous":
        return _connection(GCSStore, location, {**arguments, "skip_signature": True}, "without credentials")
    return _connection(GCSStore, location, arguments, "with Google's application default credentials")


def _azure(location: Location, environment: Mapping[str, str]) -> Connection:
    from obstore.store import AzureStore

    word, arguments = location.credentials, {"account_name": location.account}
    if location.endpoint:
        arguments["endpoint"] = location.endpoint
    if word == "anonymous":
        return _connection(AzureStore, location, {**arguments, "skip_signature": True}, "without credentials")
    given = [name for name in _AZURE_KEYS if name in environment]
    if word == "environment" and not given:
        raise ConfigError(
            f"{location.url}: {_AZURE_KEYS[0]} is not set, although credentials come from the environment",
            hint="git config theta.remote.NAME.credentials cli, or export AZURE_STORAGE_ACCOUNT_KEY=KEY",
        )
    if word in {"cli", "imds"} and given:
        raise ConfigError(
            f"{location.url}: {given[0]} is set, although credentials come from {word}", hint=f"unset {given[0]}"
        )
    if word == "cli" or (not given and word is None and shutil.which("az", path=environment.get("PATH"))):
        return _connection(AzureStore, location, {**arguments, "use_azure_cli": True}, "with the login of az")
    return _connection(
        AzureStore, location, arguments, f"with {given[0]}" if given else "with the credentials of this machine"
    )


_CONNECT: Mapping[str, Callable[[Location, Mapping[str, str]], Connection]] = {"s3": _s3, "gs": _gcs, "az": _azure}


def _with_account(location: Location, environment: Mapping[str, str]) -> Location:
    account = location.account or environment.get(_ACCOUNT)
    if not account:
        raise ConfigError(
            f"{location.url}: the account that has the container is not known",
            hint="git config theta.remote.NAME.account ACCOUNT, or export AZURE_STORAGE_ACCOUNT_NAME=ACCOUNT",
        )
    return replace(location, account=account)


def _connection(store: Any, location: Location, arguments: dict[str, Any], tried: str) -> Connection:
    """Make stores for reading and for writing, which have different time limits."""
    plain = (location.endpoint or "").startswith("http:")
    try:
        reading, writing = (
            store(location.bucket, **arguments, **client_options(location.timeout, plain=plain, writing=writing))
            for writing in (False, True)
        )
    except Exception as error:  # the library raises its own errors, and ValueError
        raise ConfigError(
            f"{location.url}: {str(error).partition(chr(10))[0][:300]}", hint="git config theta.remote.NAME.url URL"
        ) from error
    return Connection(reading, writing, tried)
