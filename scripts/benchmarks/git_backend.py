"""Serve git over HTTP by ``git http-backend``."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def run_backend(
    root: Path, method: str, target: str, headers: Mapping[str, str], data: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Answer a request about a repository.

    Args:
        root: The directory of the repositories.
        method: The method.
        target: Path and query.
        headers: The headers.
        data: The body.

    Returns:
        Status, headers and body of the answer.
    """
    parts = urlsplit(target)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "PATH_INFO": unquote(parts.path),
        "QUERY_STRING": parts.query,
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(data)),
        "REMOTE_USER": "user",
        "REMOTE_ADDR": "127.0.0.1",
    }
    for header, variable in (("Git-Protocol", "GIT_PROTOCOL"), ("Content-Encoding", "HTTP_CONTENT_ENCODING")):
        if header in headers:
            environment[variable] = headers[header]
    # Standard error may be that of a command that is looked at; a failure shows in the status.
    done = subprocess.run(
        ["git", "http-backend"],
        input=data,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    return int(fields.pop("Status", "200").split()[0]), fields, body
