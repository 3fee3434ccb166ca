"""Let numerical libraries use one core while they compute with small matrices."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.merging.devices.cpu import one_thread
from git_theta_ext.util.blas import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = 1 << 18
"""Elements. The threads of a library wait busily for each other, longer than a decomposition of that size takes."""


@contextmanager
def one_core(*, small: bool) -> Iterator[None]:
    """Limit torch and the BLAS of numpy to one thread for each operation, if the matrices are small."""
    with ExitStack() as limits:
        if small:
            limits.enter_context(one_thread())
            limits.enter_context(one_blas_thread())
        yield
