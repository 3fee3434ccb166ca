"""A connection to an SFTP server, over which several threads send requests at the same time."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, RLock, Thread, current_thread
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ProtocolError, RemoteError
from git_theta_ext.interfaces import widen_pipe, write_pieces
from git_theta_ext.protocol.sftp.answers import Answer, read_answer, read_version
from git_theta_ext.protocol.sftp.packets import Framer
from git_theta_ext.protocol.sftp.requests import HELLO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Buffer

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.protocol.sftp.requests import Request

_PIPE = 1 << 20
_ERRORS = 1 << 13
_PIECES = 64  # of one call of writev
_poll: Any = getattr(select, "poll", None)
_POLLIN: int = getattr(select, "POLLIN", 0)
_POLLOUT: int = getattr(select, "POLLOUT", 0)
_LAST_WORDS = 2.0  # seconds for a process that closed its output to end


@dataclass(frozen=True)
class Ended:
    """How a connection ended.

    Attributes:
        errors: The end of what the process wrote to standard error.
        silent: The number of seconds without an answer, if that is the reason.
        broken: How the server broke the protocol, if that is the reason.
        began: The first bytes of the server, if it broke the protocol with them.
    """

    errors: str
    silent: float = 0
    broken: str = ""
    began: bytes = b""


class Connection:
    """Sends requests to a process and receives its answers, in a thread of its own.

    Args:
        process: A process with pipes, which becomes this connection's.
        timeout: Time in seconds after which a server that owes an answer, and neither sends nor takes a byte, is given
            up.
        explain: Makes the error of all unfinished and later requests.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], timeout: float, explain: Callable[[Ended], ThetaError]
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.hello: Future[Mapping[bytes, bytes]] = Future()
        """The extensions of the server."""
        self._process = process
        self._streams = (process.stdin, process.stdout, process.stderr)
        self._timeout = timeout
        self._explain = explain
        self._lock = RLock()  # the garbage collector may call close() anywhere
        self._outgoing: deque[Buffer] = deque([HELLO])
        self._pending: dict[int, Future[Answer]] = {}
        self._number = 0
        self._ended: Ended | None = None
        self._closing = self._woken = self._sending = False
        self._poll = _poll()
        self._framer, self._began, self._errors = Framer(), b"", b""
        self._moved = time.monotonic()
        self._waking, self._wake = os.pipe()
        for stream in self._streams:
            if hasattr(os, "set_blocking"):  # Windows has it since Python 3.12
                os.set_blocking(stream.fileno(), False)
            widen_pipe(stream, _PIPE)
        self._flushed = Event()
        self._thread = Thread(target=self._run, name="sftp", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests can be sent."""
        return self._ended is None

    def send(self, request: Request) -> Future[Answer]:
        """Send a request. The answer may be a ``Status`` that it failed; the future raises if the connection ends."""
        return self.send_together(request)[0]

    def send_together(self, *together: Request) -> list[Future[Answer]]:
        """Send requests so that no request of another thread comes between them."""
        futures: list[Future[Answer]] = [Future() for _ in together]
        with self._lock:
            if self._ended is not None or self._closing:
                for future in futures:
                    future.set_exception(self._explain(self._ended or Ended("")))
                return futures
            if not self._pending:
                self._moved = time.monotonic()
            for request, future in zip(together, futures, strict=True):
                self._number = (self._number + 1) & 0xFFFFFFFF
                self._pending[self._number] = future
                self._outgoing.extend(request.packet(self._number))
            self._wake_up()
        return futures

    def close(self) -> None:
        """Let the server end after it has done what was requested; waits only until the requests are on their way."""
        with self._lock:
            if self._ended is None and not self._closing:
                self._closing = True
                self._wake_up()
        if current_thread() is not self._thread:
            self._flushed.wait(_LAST_WORDS)

    def _wake_up(self) -> None:
        if not self._woken:
            self._woken = True
            os.write(self._wake, b"\0")

    def _run(self) -> None:
        try:
            ended = self._serve()
        except BaseException as error:  # noqa: BLE001 - whoever waits for an answer must be woken
            ended = Ended(self._text(), broken=f"{type(error).__name__}: {error}")
        with self._lock:
            self._ended = ended
            waiting = list(self._pending.values())
            self._pending.clear()
            self._outgoing.clear()
            os.close(self._wake)
        self._flushed.set()
        os.close(self._waking)
        for future in waiting:
            future.set_exception(self._explain(ended))
        if not self.hello.done():
            self.hello.set_exception(self._explain(ended))
        self._reap()

    def _serve(self) -> Ended:
        """Move bytes until the connection ends."""
        stdin, stdout, stderr = (stream.fileno() for stream in self._streams)
        for fd in (stdout, stderr, self._waking):
            self._poll.register(fd, _POLLIN)
        while (ready := self._ready(stdin)) is not None:
            if self._waking in ready:
                self._sleep_again()
            if stderr in ready and not self._read_errors():
                self._poll.unregister(stderr)
            try:
                if stdout in ready and not self._receive(stdout):
                    return self._last_words()
                if stdin in ready:
                    self._transmit(stdin)
            except ProtocolError as error:
                return Ended(self._text(), broken=error.message, began=self._began)
            except OSError:  # the process does not read any more: what it wrote last says why
                return self._last_words()
        return Ended(self._text(), silent=self._timeout)

    def _ready(self, stdin: int) -> set[int] | None:
        """Wait for descriptors that can be read or written, and return them; None after too long a silence."""
        with self._lock:
            wanted, busy = bool(self._outgoing), bool(self._pending) or not self.hello.done()
            if self._closing and not wanted:
                self._streams[0].close()
                self._flushed.set()
        if wanted:
            self._poll.register(stdin, _POLLOUT)
        elif self._sending:
            self._poll.unregister(stdin)
        self._sending = wanted
        left = self._moved + self._timeout - time.monotonic() if busy else None
        ready = {fd for fd, _ in self._poll.poll(left if left is None else max(0, left * 1000))}
        return ready if ready or left is None or left > 0 else None

    def _sleep_again(self) -> None:
        with self._lock:
            os.read(self._waking, 1)
            self._woken = False

    def _transmit(self, stdin: int) -> None:
        with self._lock:
            pieces = [self._outgoing[number] for number in range(min(_PIECES, len(self._outgoing)))]
        # Nobody else removes pieces, so the lock is not held while the kernel copies.
        with suppress(BlockingIOError):
            count = write_pieces(stdin, pieces)
            self._moved = time.monotonic()
            with self._lock:
                while count:
                    piece = memoryview(self._outgoing.popleft()).cast("B")
                    if len(piece) > count:
                        self._outgoing.appendleft(piece[count:])
                        return
                    count -= len(piece)

    def _receive(self, stdout: int) -> bool:
        """Read answers; returns whether there may be more."""
        data = os.read(stdout, _PIPE)
        self._moved = time.monotonic()
        if not self.hello.done():
            self._began = (self._began + data)[:_ERRORS]
        for packet in self._framer.feed(data):
            if not self.hello.done():
                self.hello.set_result(read_version(packet))
                self._began = b""
                continue
            number, answer = read_answer(packet)
            with self._lock:
                future = self._pending.pop(number, None)
            if future is None:
                raise ProtocolError(f"an answer to request {number}, which was not sent")
            future.set_result(answer)
        return bool(data)

    def _read_errors(self) -> bool:
        """Read standard error; returns whether there may be more."""
        with suppress(BlockingIOError):
            data = os.read(self._streams[2].fileno(), _PIPE)
            self._errors = (self._errors + data)[-_ERRORS:]
            return bool(data)
        return True

    def _last_words(self) -> Ended:
        """Wait for a process that closed its output: it may still write why."""
        end = time.monotonic() + _LAST_WORDS
        poll = _poll()
        poll.register(self._streams[2], _POLLIN)
        while (left := end - time.monotonic()) > 0 and poll.poll(left * 1000):
            if not self._read_errors():
                break
        return Ended(self._text())

    def _text(self) -> str:
        return self._errors.decode(errors="replace")

    def _reap(self) -> None:
        """Close the pipes, so that the process ends, and wait for it."""
        for stream in self._streams:
            with suppress(OSError):
                stream.close()
        with suppress(subprocess.TimeoutExpired):
            # Others may use the connection of a process that was closed in good order (ControlMaster of ssh).
            self._process.wait(None if self._closing else _LAST_WORDS)
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()


def check_system() -> None:
    """Raise ``RemoteError`` on a system on which no process can be connected, which is Windows."""
    if _poll is None:
        raise RemoteError("remotes over SSH need poll(2), which this system lacks; WSL 2 has it")
