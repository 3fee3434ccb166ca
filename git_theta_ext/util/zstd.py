"""The functions of the package zstandard, without what it imports to choose between its implementations.

Python's ``platform``, which it asks for the name of the interpreter, takes three times as long as all the rest.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from threading import Lock
from typing import Any

_PACKAGE = "zstandard"
_COMPILED = "zstandard.backend_c"
_lock = Lock()


@cache
def zstd() -> Any:
    """Return the compiled module of zstandard, or the package if it was imported already or has no such module.

    Both have the same classes: an import of the package finds the module.
    """
    chosen = sys.implementation.name == "cpython" and _PACKAGE not in sys.modules
    with _lock:
        compiled = _compiled() if chosen else None
    if compiled is not None:
        return compiled
    import zstandard

    return zstandard


def _compiled() -> Any:
    """Import the compiled module without its package; return None if it is not where it usually is."""
    if _COMPILED in sys.modules:
        return sys.modules[_COMPILED]
    package = PathFinder.find_spec(_PACKAGE)
    spec = None if package is None else PathFinder.find_spec(_COMPILED, package.submodule_search_locations)
    if spec is None or spec.loader is None:
        return None
    try:
        module = sys.modules[_COMPILED] = module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        sys.modules.pop(_COMPILED, None)
        return None
    return module
