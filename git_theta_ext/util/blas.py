"""Limit numerical libraries to one core, where threads already share the work or matrices are small."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = frozenset({"numpy", "scipy", "torch"})
"""Packages that load a BLAS or OpenMP."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let the BLAS of numpy use one thread for each operation during a block."""
    import numpy as np  # noqa: F401 - a library that is loaded later is not limited

    with _controller(_LIBRARIES.intersection(sys.modules)).limit(limits=1):
        yield


@cache
def _controller(loaded: frozenset[str]) -> Any:
    """Return what limits the libraries that some packages have loaded: to find them takes milliseconds."""
    del loaded
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
