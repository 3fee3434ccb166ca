"""Credentials and region for S3, where Amazon's tools look for them."""

from __future__ import annotations

import json
import shlex
import subprocess
from configparser import ConfigParser
from configparser import Error as ParseError
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from git_theta_ext.errors import ConfigError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BUCKETS = "https://s3.amazonaws.com"
_REGION_SECONDS = 10
_PROCESS_SECONDS = 60
_CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_EXPORT = 'eval "$(aws configure export-credentials --format env)"'


def credentials(url: str, word: str | None, environment: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Return where credentials are found.

    Args:
        url: The URL, for messages.
        word: The setting: ``environment``, ``profile``, ``imds``, ``ecs``, ``anonymous``, or None for the first of them
            that has any.
        environment: The user's environment.

    Returns:
        Arguments for ``obstore.store.S3Store``, and a description for messages. Without any of the arguments, the store
        looks at the environment and then asks the machine that it runs on.

    Raises:
        ConfigError: There are none, or the settings contradict each other.
        RemoteError: The program that a profile names did not print credentials.
    """
    in_environment = "AWS_ACCESS_KEY_ID" in environment
    if word == "anonymous":
        return {"skip_signature": True}, "without credentials"
    if word == "environment" and not in_environment:
        raise ConfigError(
            f"{url}: AWS_ACCESS_KEY_ID is not set, although credentials come from the environment", hint=_EXPORT
        )
    if word in {"imds", "ecs"} and in_environment:
        raise ConfigError(
            f"{url}: AWS_ACCESS_KEY_ID is set, although credentials come from {word}", hint="unset AWS_ACCESS_KEY_ID"
        )
    if word == "ecs" and not any(name in environment for name in _CONTAINER):
        raise ConfigError(f"{url}: {_CONTAINER[0]} is not set, so this is not a container of ECS")
    if in_environment and word != "profile":
        return {}, "with AWS_ACCESS_KEY_ID"
    name, profile = _profile(environment)
    if word != "profile" and (word is not None or not {"aws_access_key_id", "credential_process"} & set(profile)):
        return {}, "with the credentials of this machine"
    described = f"with the profile {name} of ~/.aws"
    if "aws_access_key_id" in profile:
        return {"credential_provider": lambda: _static(profile)}, described
    if "credential_process" in profile:
        return {"credential_provider": _running(url, profile["credential_process"])}, described
    raise ConfigError(f"{url}: the profile {name} in ~/.aws has no keys", hint="aws configure")


def endpoint_of(environment: Mapping[str, str]) -> str | None:
    """Return the address of the server that the user's environment names, as Amazon's own tools read it."""
    return next((environment[name] for name in _ENDPOINTS if environment.get(name)), None)


def region_of(bucket: str, environment: Mapping[str, str]) -> str | None:
    """Return the region of a bucket of Amazon, or that of the user if Amazon does not say; None if neither is known."""
    if endpoint_of(environment) is None:
        with suppress(OSError, ValueError):
            request = Request(f"{_BUCKETS}/{bucket}", method="HEAD")  # noqa: S310 - a constant scheme
            try:
                headers = build_opener(_NoRedirects).open(request, timeout=_REGION_SECONDS).headers
            except HTTPError as error:  # also if the bucket is in another region, or not public
                headers = error.headers
            if region := headers.get("x-amz-bucket-region"):
                return str(region)
    return (
        environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or _profile(environment)[1].get("region")
    )


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Do not follow: the redirect itself has the region."""


def _profile(environment: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Return the name and the content of the user's profile in both files."""
    name = environment.get("AWS_PROFILE") or "default"
    found: dict[str, str] = {}
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        path = Path(environment.get(variable) or f"{environment.get('HOME', '~')}/.aws/{file}").expanduser()
        parser = ConfigParser(interpolation=None, default_section="")
        try:
            parser.read(path, encoding="utf-8")
        except (ParseError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path} cannot be parsed", hint=f"aws configure list, which reads {quote(str(path))}"
            ) from error
        if parser.has_section(section):
            found.update(parser[section])
    return name, found


def _static(profile: Mapping[str, str]) -> dict[str, Any]:
    return {
        "access_key_id": profile["aws_access_key_id"],
        "secret_access_key": profile.get("aws_secret_access_key", ""),
        "token": profile.get("aws_session_token"),
        "expires_at": None,
    }


def _running(url: str, command: str) -> Callable[[], dict[str, Any]]:
    """Return a function that gets credentials from a program, as Amazon's tools do for ``credential_process``."""

    def provide() -> dict[str, Any]:
        try:
            done = subprocess.run(
                shlex.split(command), check=True, stdout=subprocess.PIPE, timeout=_PROCESS_SECONDS
            )  # fmt: skip
            printed = json.loads(done.stdout)
            until = printed.get("Expiration")
            return {
                "access_key_id": printed["AccessKeyId"],
                "secret_access_key": printed["SecretAccessKey"],
                "token": printed.get("SessionToken"),
                "expires_at": datetime.fromisoformat(until.replace("Z", "+00:00")) if until else None,
            }
        except (OSError, subprocess.SubprocessError, ValueError, LookupError, AttributeError) as error:
            raise RemoteError(f"{url}: the credential_process in ~/.aws failed", hint=_EXPORT) from error

    return provide
