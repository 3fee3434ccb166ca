"""The server side of git's long-running filter process protocol, version 2, as a state machine.

Source: ``gitattributes(5)``, "Long Running Filter Process". Git sends first and waits for each response, so bytes that
arrive before a response is sent are an error. Delayed checkout is not offered. A list is limited to one mebibyte;
content is passed on as it arrives.

    connection.receive(data) -> Welcome         answer with send_welcome()
                                Capabilities    answer with send_capabilities()
                                Request, Content ..., EndOfContent
                                                answer with send_success(content) or send_error()
                                EndOfInput      git has closed its end
"""

from __future__ import annotations

from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol.filter_answer import success
from git_theta_ext.protocol.pktline import Decoder, PayloadPart, encode_list
from git_theta_ext.records import NamedTuple, dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

CLEAN: Final = "clean"
SMUDGE: Final = "smudge"

_OFFERED = (CLEAN, SMUDGE)
_METADATA = ("ref", "treeish", "blob")
_MAX_LIST = 1 << 20


@dataclass(frozen=True, slots=True)
class Welcome:
    """Git has introduced itself and supports our version of the protocol."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The commands that git can send."""

    offered: frozenset[str]


@dataclass(frozen=True, slots=True)
class Request:
    """Git requests a conversion; the content follows.

    Attributes:
        command: ``clean``, ``smudge``, or another word, which must be answered with an error.
        pathname: Path relative to the top of the work tree; bytes that are not UTF-8 are surrogate escapes.
        metadata: ``ref``, ``treeish`` and ``blob``, those of them that git sends.
    """

    command: str
    pathname: str
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class Content(NamedTuple):
    """Bytes of the content, valid only until the buffer that they were received into is reused."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class EndOfContent:
    """The request is complete and needs an answer."""


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """Git closed its end between two requests."""


Event: TypeAlias = Welcome | Capabilities | Request | Content | EndOfContent | EndOfInput


class _State(Enum):
    WELCOME = auto()
    SEND_WELCOME = auto()
    CAPABILITIES = auto()
    SEND_CAPABILITIES = auto()
    REQUEST = auto()
    CONTENT = auto()
    REPLY = auto()
    CLOSED = auto()


_LISTS = (_State.WELCOME, _State.CAPABILITIES, _State.REQUEST)


class Connection:
    """The connection of a filter process to the git that started it."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._state = _State.WELCOME
        self._lines: list[bytes] = []
        self._line = bytearray()
        self._size = 0

    def receive(self, data: Buffer) -> list[Event]:
        """Process bytes that git sent.

        Args:
            data: The next bytes; empty if git has closed its end.

        Returns:
            The events in the bytes. ``Content`` is a view of ``data``.

        Raises:
            ProtocolError: Git violates the protocol, or has closed its end within a message.
        """
        if not memoryview(data).nbytes:
            return [self._end()]
        events: list[Event] = []
        within = _State.CONTENT  # to look it up takes longer than to compare with it
        for packet in self._decoder.feed(data):
            if self._state is within:
                if isinstance(packet, PayloadPart):
                    if packet.data:
                        events.append(Content(packet.data))
                else:
                    self._state = _State.REPLY
                    events.append(EndOfContent())
            elif self._state not in _LISTS:
                raise ProtocolError("git sent data before it received the response")
            elif isinstance(packet, PayloadPart):
                self._collect(packet)
            else:
                events.append(self._list_ended())
        return events

    def send_welcome(self) -> bytes:
        """Answer ``Welcome``."""
        self._answer(_State.SEND_WELCOME, _State.CAPABILITIES)
        return encode_list([b"git-filter-server", b"version=2"])

    def send_capabilities(self) -> bytes:
        """Answer ``Capabilities`` with clean and smudge."""
        self._answer(_State.SEND_CAPABILITIES, _State.REQUEST)
        return encode_list(b"capability=" + name.encode() for name in _OFFERED)

    def send_success(self, content: Buffer) -> bytes:
        """Answer a complete request with the converted content."""
        self._answer(_State.REPLY, _State.REQUEST)
        return success(content)

    def send_error(self) -> bytes:
        """Answer a complete request with an error: this file cannot be converted."""
        self._answer(_State.REPLY, _State.REQUEST)
        return encode_list([b"status=error"])

    def _answer(self, due: _State, then: _State) -> None:
        if self._state is not due:
            raise ProtocolError(f"cannot send this response in state {self._state.name}")
        self._state = then

    def _end(self) -> EndOfInput:
        between = self._state is _State.REQUEST and not self._lines and not self._line
        if not between or not self._decoder.idle:
            raise ProtocolError("git closed the connection within a message")
        self._state = _State.CLOSED
        return EndOfInput()

    def _collect(self, part: PayloadPart) -> None:
        # An empty line takes memory too.
        self._size += len(part.data) + 1
        if self._size > _MAX_LIST:
            raise ProtocolError(f"a list from git exceeds the limit of {_MAX_LIST} bytes")
        self._line += part.data
        if part.last:
            self._lines.append(bytes(self._line.removesuffix(b"\n")))
            self._line.clear()

    def _list_ended(self) -> Event:
        lines, self._lines, self._size = self._lines, [], 0
        if self._state is _State.WELCOME:
            self._state = _State.SEND_WELCOME
            return _welcome(lines)
        if self._state is _State.CAPABILITIES:
            self._state = _State.SEND_CAPABILITIES
            return _capabilities(lines)
        self._state = _State.CONTENT
        return _request(lines)


def _welcome(lines: list[bytes]) -> Welcome:
    if not lines or lines[0] != b"git-filter-client":
        raise ProtocolError(f"expected 'git-filter-client', received {_text(lines[:1])}")
    if b"version=2" not in lines[1:]:
        raise ProtocolError(f"git does not offer version 2 of the filter protocol, but {_text(lines[1:])}")
    return Welcome()


def _capabilities(lines: list[bytes]) -> Capabilities:
    offered = frozenset(value for key, value in map(_pair, lines) if key == "capability")
    if not offered.issuperset(_OFFERED):
        raise ProtocolError(f"git does not offer clean and smudge, but {', '.join(sorted(offered)) or 'nothing'}")
    return Capabilities(offered)


def _request(lines: list[bytes]) -> Request:
    pairs = [_pair(line) for line in lines]
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ProtocolError(f"duplicate key in filter request: {_text(lines)}")
    if not values.get("command") or not values.get("pathname"):
        raise ProtocolError(f"filter request without command or pathname: {_text(lines)}")
    metadata = {key: values[key] for key in _METADATA if key in values}
    return Request(values["command"], values["pathname"], MappingProxyType(metadata))


def _pair(line: bytes) -> tuple[str, str]:
    key, separator, value = line.decode("utf-8", "surrogateescape").partition("=")
    if not separator:
        raise ProtocolError(f"expected key=value, received {line!r}")
    return key, value


def _text(lines: list[bytes]) -> str:
    return ", ".join(ascii(line.decode("utf-8", "replace")) for line in lines) or "nothing"
