"""An SFTP server in a thread of the tests' process, which can misbehave."""

from __future__ import annotations

import copy
import errno
import os
import struct
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.protocol.sftp.packets import (
    FREE_SPACE,
    HARD_LINK,
    LIMITS,
    SYNC,
    Attributes,
    Code,
    Fields,
    Framer,
    Kind,
    string,
    u32,
    u64,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXTENSIONS = (HARD_LINK, SYNC, LIMITS, FREE_SPACE)
_CODES = {errno.ENOENT: Code.NO_SUCH_FILE, errno.ENOTDIR: Code.NO_SUCH_FILE, errno.EACCES: Code.PERMISSION_DENIED}


def packet(kind: Kind, fields: bytes) -> bytes:
    """Return a packet with its length."""
    return u32(len(fields) + 1) + bytes([kind]) + fields


def status(number: int, code: int) -> bytes:
    """Return the answer that a request succeeded or failed."""
    return packet(Kind.STATUS, u32(number) + u32(code) + string(b"so it is") + string(b"en"))


def names(number: int, *entries: tuple[bytes, Attributes]) -> bytes:
    """Return the answer with entries of a directory."""
    body = b"".join(string(name) + string(b"-rw-") + attributes.encode() for name, attributes in entries)
    return packet(Kind.NAME, u32(number) + u32(len(entries)) + body)


class Server:
    """Serve the files of this machine.

    Args:
        extensions: Those that the server has.
        override: Called with each request's kind, number and fields; what it returns is sent in place of the answer.
        sends: After so many bytes in all the server dies.
        takes: After so many received bytes in all the server dies.
        errors: What it writes to standard error before it dies.
    """

    def __init__(
        self,
        extensions: tuple[bytes, ...] = EXTENSIONS,
        override: Callable[[int, int, Fields], bytes | None] = lambda *_: None,
        sends: int | None = None,
        takes: int | None = None,
        errors: bytes = b"",
    ) -> None:
        self.extensions = extensions
        self.override = override
        self.sends = sends
        self.takes = takes
        self.errors = errors
        self.received: list[Kind] = []
        self.processes: list[Process] = []

    def start(self, *_: object) -> Process:
        """Start to serve; the place of ``SshCommand.start``."""
        (stdin, to_server), (from_server, stdout), (reads, stderr) = os.pipe(), os.pipe(), os.pipe()
        process = Process(to_server, from_server, reads)
        self.processes.append(process)
        threading.Thread(target=self._serve, args=(stdin, stdout, stderr, process), daemon=True).start()
        return process

    def _serve(self, stdin: int, stdout: int, stderr: int, process: Process) -> None:
        files, framer, sent, taken = _Files(self.extensions), Framer(), 0, 0
        try:
            while data := os.read(stdin, 1 << 16):
                taken += len(data)
                if self.takes is not None and taken >= self.takes:
                    break
                for request in framer.feed(data):
                    answer = self._answer(Fields(request), files)
                    left = len(answer) if self.sends is None else self.sends - sent
                    sent += len(answer)
                    view = memoryview(answer)[:left]
                    while view:
                        view = view[os.write(stdout, view) :]
                    if left < len(answer):
                        return
        except BrokenPipeError:
            pass
        finally:
            files.close_all()
            with suppress(OSError):
                os.write(stderr, self.errors)
            for fd in (stdin, stdout, stderr):
                os.close(fd)
            process.ended.set()

    def _answer(self, fields: Fields, files: _Files) -> bytes:
        kind = Kind(fields.u8())
        self.received.append(kind)
        number = 0 if kind == Kind.INIT else fields.u32()
        # The override may read the fields.
        other = self.override(kind, number, copy.copy(fields))
        if other is not None:
            return other
        if kind == Kind.INIT:
            return packet(Kind.VERSION, u32(3) + b"".join(string(name) + string(b"1") for name in self.extensions))
        return files.answer(kind, number, fields)


class _Files:
    """The open files of a connection, and what is done to files: a method for each kind of request."""

    def __init__(self, extensions: tuple[bytes, ...]) -> None:
        self._extensions = extensions
        self._handles: dict[bytes, int] = {}
        self._listed: dict[bytes, Iterator[Path]] = {}

    def answer(self, kind: Kind, number: int, fields: Fields) -> bytes:
        handler = getattr(self, f"_{kind.name.lower()}")
        try:
            return handler(number, fields) or status(number, Code.OK)
        except OSError as error:
            return status(number, _CODES.get(error.errno, Code.FAILURE))
        except KeyError:  # a handle that is none
            return status(number, Code.FAILURE)

    def close_all(self) -> None:
        for fd in self._handles.values():
            os.close(fd)

    def _open(self, number: int, fields: Fields) -> bytes:
        path, flags = fields.string(), fields.u32()
        how = os.O_RDONLY if flags == 1 else os.O_WRONLY | os.O_CREAT | os.O_EXCL
        handle = b"%d" % number
        self._handles[handle] = os.open(path, how, fields.attributes().mode or 0o666)
        return packet(Kind.HANDLE, u32(number) + string(handle))

    def _close(self, _: int, fields: Fields) -> None:
        if (fd := self._handles.pop(fields.string(), None)) is not None:
            os.close(fd)

    def _read(self, number: int, fields: Fields) -> bytes:
        handle, offset, count = fields.string(), fields.u64(), fields.u32()
        data = os.pread(self._handles[handle], min(count, 1 << 15), offset)  # less than it is asked for, as it may
        return packet(Kind.DATA, u32(number) + string(data)) if data else status(number, Code.END_OF_FILE)

    def _write(self, _: int, fields: Fields) -> None:
        handle, offset = fields.string(), fields.u64()
        os.pwrite(self._handles[handle], fields.string(), offset)

    def _lstat(self, number: int, fields: Fields) -> bytes:
        return packet(Kind.ATTRS, u32(number) + _attributes(_path(fields).lstat()).encode())

    def _setstat(self, _: int, fields: Fields) -> None:
        _change(_path(fields), fields.attributes())

    def _fsetstat(self, _: int, fields: Fields) -> None:
        _change(self._handles[fields.string()], fields.attributes())

    def _opendir(self, number: int, fields: Fields) -> bytes:
        handle = b"%d" % number
        self._listed[handle] = iter(list(_path(fields).iterdir()))
        return packet(Kind.HANDLE, u32(number) + string(handle))

    def _readdir(self, number: int, fields: Fields) -> bytes:
        path = next(self._listed[fields.string()], None)
        if path is None:
            return status(number, Code.END_OF_FILE)
        return names(number, (os.fsencode(path.name), _attributes(path.lstat())))

    def _remove(self, _: int, fields: Fields) -> None:
        _path(fields).unlink()

    def _mkdir(self, _: int, fields: Fields) -> None:
        _path(fields).mkdir(fields.attributes().mode or 0o777)

    def _rename(self, number: int, fields: Fields) -> bytes | None:
        old, new = _path(fields), _path(fields)
        if new.exists():
            return status(number, Code.FAILURE)
        old.rename(new)
        return None

    def _extended(self, number: int, fields: Fields) -> bytes | None:
        name = fields.string()
        if name not in self._extensions:
            return status(number, Code.UNSUPPORTED)
        if name == LIMITS:
            return packet(Kind.EXTENDED_REPLY, u32(number) + u64(1 << 18) + u64(261120) + u64(261120) + u64(100))
        if name == FREE_SPACE:
            found = os.statvfs(fields.string())
            return packet(Kind.EXTENDED_REPLY, u32(number) + struct.pack(">11Q", *found[:5], *[0] * 6))
        if name == SYNC:
            os.fsync(self._handles[fields.string()])
        else:
            old, new = _path(fields), _path(fields)
            new.hardlink_to(old)
        return None


def _path(fields: Fields) -> Path:
    return Path(os.fsdecode(fields.string()))


def _change(what: int | Path, attributes: Attributes) -> None:
    if attributes.mode is not None:
        os.chmod(what, attributes.mode)  # noqa: PTH101 - it may be a descriptor
    if attributes.mtime is not None:
        os.utime(what, (attributes.mtime,) * 2)


def _attributes(found: os.stat_result) -> Attributes:
    return Attributes(found.st_size, found.st_mode, int(found.st_mtime))


class Process:
    """What is used of ``subprocess.Popen``."""

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        self.stdin, self.stdout, self.stderr = (
            os.fdopen(fd, mode, buffering=0) for fd, mode in ((stdin, "wb"), (stdout, "rb"), (stderr, "rb"))
        )
        self.ended = threading.Event()
        self.returncode: int | None = None
        self.killed = False

    def wait(self, timeout: float | None = None) -> int:
        if not self.ended.wait(timeout):
            raise subprocess.TimeoutExpired("server", timeout or 0)
        self.returncode = 255
        return 255

    def kill(self) -> None:
        self.killed = True
        self.ended.set()
