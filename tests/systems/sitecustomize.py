"""Take from every Python of a test what GIT_THETA_TEST_WITHOUT names, as on a system that does not have it."""

import ctypes
import os
import signal
import sys
from functools import partial


def _without_proc() -> None:
    def hidden(path: object) -> bool:
        return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith("/proc")

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event in {"open", "os.listdir", "os.scandir", "os.link"} and hidden(arguments[0]):
            raise FileNotFoundError(2, "No such file or directory", arguments[0])

    def stat(path: object, *arguments: object, **named: object) -> os.stat_result:
        if hidden(path):
            raise FileNotFoundError(2, "No such file or directory", path)
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    real, os.stat = os.stat, partial(stat)  # type: ignore[assignment]
    sys.addaudithook(refuse)


def _without_renameat2() -> None:
    load = ctypes.CDLL.__getattr__

    def find(library: ctypes.CDLL, name: str) -> object:
        if name == "renameat2":
            raise AttributeError(name)
        return load(library, name)

    ctypes.CDLL.__getattr__ = find  # type: ignore[method-assign]


def _without_fcntl() -> None:
    sys.modules["fcntl"] = None  # type: ignore[assignment]
    sys.modules["resource"] = None  # type: ignore[assignment]


def _without_posix() -> None:
    """Take away what Python lacks on Windows, but from modules of Python that have decided what they use."""
    import select
    import selectors
    import shutil
    import subprocess  # noqa: F401 - as above
    import tempfile

    for module in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
        sys.modules[module] = None  # type: ignore[assignment]
    flags = ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_TMPFILE")
    calls = ("fchmod", "fchown", "getuid", "geteuid", "killpg", "nice", "pread", "preadv", "pwrite", "readv", "writev")
    for name in (*flags, *calls, "listxattr", "getxattr", "setxattr", "sched_getaffinity", "set_blocking", "statvfs"):
        delattr(os, name)
    for name in ("SIGHUP", "SIGURG"):
        delattr(signal, name)
    del select.poll, selectors.PollSelector
    shutil._use_fd_functions = tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and arguments[1] is None and os.path.isdir(arguments[0]):  # type: ignore[arg-type]  # noqa: PTH112 - may be a number
            raise PermissionError(13, "Permission denied", arguments[0])

    sys.addaudithook(refuse)
    load = ctypes.CDLL.__init__

    def opened(library: ctypes.CDLL, name: str | None, *arguments: object, **named: object) -> None:
        if name is None and "use_errno" in named:  # threadpoolctl looks at sys.platform instead
            raise TypeError("bad argument type for built-in operation")
        load(library, name, *arguments, **named)  # type: ignore[arg-type]

    ctypes.CDLL.__init__ = opened  # type: ignore[method-assign]


def _without_leases() -> None:
    import fcntl

    del fcntl.F_SETLEASE


def _without_attributes() -> None:
    del os.listxattr, os.setxattr, os.getxattr


_WITHOUT = {
    "/proc": _without_proc,
    "renameat2": _without_renameat2,
    "fcntl": _without_fcntl,
    "posix": _without_posix,
    "leases": _without_leases,
    "extended attributes": _without_attributes,
}

for _name in filter(None, os.environ.get("GIT_THETA_TEST_WITHOUT", "").split(",")):
    if _name in _WITHOUT:
        _WITHOUT[_name]()
    else:
        _module, _, _attribute = _name.partition(".")
        delattr(sys.modules[_module], _attribute)
