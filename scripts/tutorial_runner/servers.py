"""Servers on this machine that stand in for the services of a tutorial."""

from __future__ import annotations

import base64
import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@dataclass(frozen=True)
class Stand:
    """What a running server changes for the commands of a page.

    Attributes:
        variables: Environment variables.
        shown: What the page shows for texts in outputs.
    """

    variables: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)


@contextmanager
def host(folder: Path) -> Iterator[Stand]:
    """Stand in for ``https://git.example.com``, a hosting site with Git LFS, which has the empty ``team/model.git``."""
    from benchmarks.lfs_host import LfsHost

    running = LfsHost(folder)
    try:
        running.repository("team/model.git")
        running.user = ("ada", "secret")
        login = base64.b64encode(b"ada:secret").decode()
        redirected = {
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"url.{running.url}/.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://git.example.com/",
            "GIT_CONFIG_KEY_1": f"http.{running.url}/.extraHeader",
            "GIT_CONFIG_VALUE_1": f"Authorization: Basic {login}",
        }
        yield Stand(redirected, {running.url: "https://git.example.com"})
    finally:
        running.close()


@contextmanager
def s3(_: Path | None = None) -> Iterator[Stand]:
    """Stand in for an S3 server with an empty bucket ``models``. It takes any key."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").disabled = True
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"aws_access_key_id": "theta-key", "aws_secret_access_key": "theta-secret"}
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket="models")
        variables = {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}
        yield Stand(variables | {name.upper(): key for name, key in keys.items()}, {url: "https://s3.example.com"})
    finally:
        server.stop()


SERVERS: dict[str, Callable[[Path], AbstractContextManager[Stand]]] = {"host": host, "s3": s3}
