"""What goes wrong between a client and a server, and what the server gets."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Fault:
    """What goes wrong with some requests.

    Attributes:
        match: A regular expression for ``METHOD PATH``.
        status: Answer with this status instead.
        headers: Headers of that answer.
        cut_up: Close the connection after so many bytes of the request's body.
        cut_down: Close the connection after so many bytes of the answer's body.
        corrupt: Change a byte of the body of the answer.
        silent: Answer nothing for so many seconds, or until the host ends.
        slow: Seconds between pieces of the body of the answer, which has 8 of them.
        times: How often it happens.
    """

    match: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_up: int | None = None
    cut_down: int | None = None
    corrupt: bool = False
    silent: float = 0
    slow: float = 0
    times: int = 1


@dataclass
class Request:
    """A request that the host got: method, path, headers in lower case, and bytes in each direction."""

    method: str
    path: str
    headers: dict[str, str]
    up: int = 0
    down: int = 0
    status: int = 0
