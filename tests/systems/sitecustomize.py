"""Take from every Python of a test what GIT_THETA_TEST_WITHOUT names, as on a system that does not have it."""

import ctypes
import os
import signal  # noqa: F401 - an attribute of it may be named
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


def _without_leases() -> None:
    import fcntl

    del fcntl.F_SETLEASE


def _without_attributes() -> None:
    del os.listxattr, os.setxattr, os.getxattr


_WITHOUT = {
    "/proc": _without_proc,
    "renameat2": _without_renameat2,
    "fcntl": _without_fcntl,
    "leases": _without_leases,
    "extended attributes": _without_attributes,
}

for _name in filter(None, os.environ.get("GIT_THETA_TEST_WITHOUT", "").split(",")):
    if _name in _WITHOUT:
        _WITHOUT[_name]()
    else:
        _module, _, _attribute = _name.partition(".")
        delattr(sys.modules[_module], _attribute)
