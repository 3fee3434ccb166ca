"""Transfer packs in threads that stop together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

    from git_theta_ext.transfer.meter import Tally
    from git_theta_ext.transfer.remote_index import OpenedRemote

Result = TypeVar("Result")


class StoppedError(BaseException):
    """A transfer is not wanted any more. No code that tries again after an error may catch it."""


class Pool:
    """Threads that transfer packs in a ``with`` block. If one of them or the block fails, all of them stop.

    A transfer stops when its remote reports progress, or when it ends if the remote does not.

    Args:
        threads: Number of threads.
        tally: Counts what is transferred.
        remotes: The remotes that the packs are transferred to or from.
    """

    def __init__(self, threads: int, tally: Tally, remotes: Iterable[OpenedRemote]) -> None:
        self._tally = tally
        self._executor = ThreadPoolExecutor(threads)
        self._watching = ExitStack()
        self._meters = {id(remote.meter): remote.meter for remote in remotes}
        self._failure: BaseException | None = None

    def submit(self, transfer: Callable[[], Result]) -> Future[Result]:
        """Run a transfer when a thread is free."""
        return self._executor.submit(self._run, transfer)

    def result(self, future: Future[Result]) -> Result:
        """Return the result of a transfer.

        Raises:
            BaseException: The error of the transfer that failed first.
        """
        try:
            return future.result()
        except BaseException:
            self.check()
            raise

    def check(self) -> None:
        """Raise the error of the transfer that failed first, if one has failed."""
        if self._failure is not None:
            raise self._failure

    def _run(self, transfer: Callable[[], Result]) -> Result:
        if self._failure is not None:
            raise StoppedError
        try:
            return transfer()
        except BaseException as error:
            self._failure = self._failure or error
            raise

    def _report(self, key: str, nbytes: int) -> None:
        if self._failure is not None:
            raise StoppedError
        self._tally.report(key, nbytes)

    def __enter__(self) -> Self:
        """Begin to watch the remotes."""
        for meter in self._meters.values():
            self._watching.enter_context(meter.watched(self._report))
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """Wait for transfers in progress; after an error they stop, and others do not begin."""
        if error is not None:  # a transfer may fail just now, and its error must not be overwritten with None
            self._failure = self._failure or error
        with self._watching:
            self._executor.shutdown(cancel_futures=error is not None)
