"""The filter that git keeps running while it adds or checks out files: it answers requests with manifests.

Smudge returns its input: git holds the whole output in memory, so a checkpoint must not pass through it. The filter
writes checkpoints after git has closed its end of the pipe; by then git has written and unlocked the index.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from git_theta_ext.checkpoint.writers import close_inherited
from git_theta_ext.errors import ProtocolError, ThetaError, to_theta_error
from git_theta_ext.git.caller import calling_command
from git_theta_ext.git.process import FILTER_RECEIVED, FINISHED_LATER, NESTED, skips_smudge
from git_theta_ext.model.manifest import is_manifest
from git_theta_ext.operations.filter.clean import LOOKING, CleanRequest
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.protocol.filter import (
    CLEAN,
    SMUDGE,
    Capabilities,
    Connection,
    Content,
    EndOfContent,
    EndOfInput,
    Request,
    Welcome,
)
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.signals import unwinding_signals
from git_theta_ext.util.system import read_into, widen_pipe
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from git_theta_ext.git.format_process import FormatProcess
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.filter.begun import Begun
    from git_theta_ext.operations.filter.populate import Wanted
    from git_theta_ext.operations.filter.smudge import SmudgeRequest, Supply
    from git_theta_ext.protocol.filter import Event
    from git_theta_ext.util.reporter import Reporter

Given = ParamSpec("Given")
Result = TypeVar("Result")

_BUFFER = 1 << 18  # mostly content that is dropped: a smaller buffer stays in the cache
_PIPE = 1 << 20


class FilterProcess:
    """One run of the filter.

    Args:
        source: File descriptor that git writes to.
        sink: File descriptor that git reads from.
        reporter: Receives notes, warnings and errors for the user.
        begun: What a shell has read and answered.
    """

    def __init__(self, reporter: Reporter, source: int = 0, sink: int = 1, begun: Begun | None = None) -> None:
        self._begun = begun
        self._sent = 0 if begun is None else begun.sent
        self._source = source
        self._reporter = reporter
        self._stored: Callable[[int], None] = no_progress
        self._sink = sink
        self._connection = Connection()
        self._workspace: Workspace | None = None
        self._formats: FormatProcess | None = None
        self._request: Request | None = None
        self._handler: CleanRequest | SmudgeRequest | None = None
        self._failed = False
        self._cleaned = False
        self._wanted: dict[str, Wanted] = {}
        self._supply: Supply | None = None

    def run(self) -> int:
        """Serve git until it closes its end, then write the checkpoints that it checked out.

        Returns:
            The exit code.
        """
        try:
            with self._reporter.progress("storing checkpoints") as self._stored:
                self._serve()
            return self._finish()
        finally:
            if self._formats is not None:
                self._formats.close()
            if self._workspace is not None:
                self._workspace.close()

    def _serve(self) -> None:
        if self._begun is not None:
            for packet in self._begun.packets():
                for event in self._connection.receive(packet):
                    self._handle(event)
        widen_pipe(self._source, _PIPE)
        buffer = memoryview(bytearray(_BUFFER))
        while True:
            # A shell answers before it has read the end of a list, so the next one may follow at once.
            count = read_into(self._source, buffer[:1] if self._sent else buffer)
            for event in self._connection.receive(buffer[:count]):
                if isinstance(event, EndOfInput):
                    return
                self._handle(event)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Content):  # first, as nearly all events are
            if (handler := self._handler) is not None:
                self._attempt(handler.content, event.data)
        elif isinstance(event, Welcome):
            self._send(self._connection.send_welcome())
        elif isinstance(event, Capabilities):
            self._send(self._connection.send_capabilities())
        elif isinstance(event, Request):
            self._request, self._failed = event, False
            self._handler = self._attempt(self._begin, event)
        elif isinstance(event, EndOfContent):
            self._answer()

    def _begin(self, request: Request) -> CleanRequest | SmudgeRequest:
        if request.command == CLEAN:
            workspace = self._open()
            from git_theta_ext.git.format_process import FormatProcess  # checkouts start without it

            self._formats = self._formats or FormatProcess(workspace.repo)
            clean_request = CleanRequest(workspace, request.pathname, self._formats, self._stored)
            self._cleaned = True
            return clean_request
        if request.command == SMUDGE:
            from git_theta_ext.operations.filter.smudge import SmudgeRequest, Supply

            self._supply = self._supply or Supply(self._open)
            return SmudgeRequest(request, self._supply)
        raise ProtocolError(f"git sent the unknown filter command {request.command!r}")

    def _answer(self) -> None:
        handler, request = self._handler, self._request
        self._handler = None
        reply = None
        if handler is not None and request is not None:
            reply = self._attempt(handler.end)
        if isinstance(handler, CleanRequest):
            handler.close()
        if reply is None or request is None:
            self._send(self._connection.send_error())
            return
        if request.command == SMUDGE:
            self._remember(request.pathname, reply)
        self._send(self._connection.send_success(reply))

    def _remember(self, path: str, content: bytes) -> None:
        from git_theta_ext.operations.filter.populate import Wanted

        self._wanted.pop(path, None)
        if is_manifest(content):
            self._wanted[path] = Wanted(content, time.time_ns())

    def _attempt(self, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result | None:
        """Call ``work`` for a part of a request; if it fails, report the error and ignore the rest of the request."""
        if self._failed:
            return None
        try:
            return work(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - git continues with other paths
            self._failed = True
            self._report(to_theta_error(error), self._request.pathname if self._request else "")
            if isinstance(self._handler, CleanRequest):
                self._handler.close()
            self._handler = None
            return None

    def _report(self, error: ThetaError, path: str) -> None:
        if path and shown_path(path) not in error.message:
            error = ThetaError(f"{shown_path(path)}: {error.message}", hint=error.hint)
        self._reporter.error(error)

    def _finish(self) -> int:
        # Git commands that refresh an index for us start this filter, which would repeat the same work endlessly.
        given = () if self._begun is None else self._begun.files
        if NESTED in os.environ or (self._workspace is None and not self._wanted and not given):
            return 0
        os.environ[NESTED] = "1"
        from git_theta_ext.git.hooks import ensure_hooks, notes
        from git_theta_ext.operations.maintenance.auto_gc import start_if_due

        try:
            workspace = self._open()
        except ThetaError as error:
            self._reporter.error(error)
            return error.exit_code
        try:
            # If only the global configuration is set, nothing else installs the hooks, and a push would upload nothing.
            changes = ensure_hooks(workspace.repo)
            if self._cleaned and calling_command(os.getppid()) not in LOOKING:
                for note, hint in notes(changes):
                    self._reporter.warning(note, hint)
        except ThetaError as error:
            self._reporter.error(error)
        if self._begun is not None:
            self._begun.date_back(workspace.repo)
        code = self._populate(workspace)
        if (self._wanted or given) and FINISHED_LATER not in os.environ:
            self._warn_of_unfinished(workspace, given)
        if self._cleaned:
            start_if_due(workspace)
        return code

    def _warn_of_unfinished(self, workspace: Workspace, given: Iterable[str]) -> None:
        from git_theta_ext.operations.merge.unfinished_models import warn_of_models

        # A shell gives no files of models of several files, for which alone the manifests matter.
        written = {**dict.fromkeys(given, b""), **{path: wanted.content for path, wanted in self._wanted.items()}}
        merges = any(name.startswith("GITHEAD_") for name in os.environ)  # git merge sets it
        try:
            warn_of_models(workspace, written, calling_command(os.getppid()), merges=merges)
        except ThetaError as error:
            self._reporter.error(error)

    def _populate(self, workspace: Workspace) -> int:
        from git_theta_ext.operations.filter.pending import read_pending

        if not (self._wanted or read_pending(workspace.repo)):
            return 0
        from git_theta_ext.operations.filter.populate import leave_out, populate_wanted, total_bytes
        from git_theta_ext.operations.sync.fetch import ensure_local

        if skips_smudge():
            return 0

        def ensure(manifests: Iterable[Manifest]) -> None:
            with self._reporter.progress("fetching parameters") as fetched:
                ensure_local(workspace, manifests, fetched, self._supply.offers if self._supply else None)

        try:
            if self._supply is not None:
                leave_out(workspace, self._supply, self._wanted)
            total = total_bytes(self._wanted.values())
            with self._reporter.progress("writing checkpoints", total) as written:
                failures = populate_wanted(workspace, self._wanted, ensure, written)
        except ThetaError as error:
            failures = [error]
        for failure in failures:
            self._reporter.error(failure)
        if failures and read_pending(workspace.repo):
            # Git ignores the exit code of a filter here.
            what = "not all checkpoints were written, although git may exit with 0"
            hint = "git theta checkout writes them; git theta status --exit-code reports them to scripts"
            self._reporter.warning(what, hint)
        return failures[0].exit_code if failures else 0

    def _open(self) -> Workspace:
        if self._workspace is None:
            self._workspace = Workspace.discover(self._reporter)
        return self._workspace

    def _send(self, data: bytes) -> None:
        if self._sent:  # by the shell
            self._sent -= 1
            return
        view = memoryview(data)
        while view.nbytes:
            view = view[os.write(self._sink, view) :]


def _begun() -> Begun | None:
    if FILTER_RECEIVED not in os.environ:
        return None
    from git_theta_ext.operations.filter.begun import Begun  # most filters start without it

    return Begun.from_environment()


def main(reporter: Reporter) -> int:
    """Run the filter on standard input and output.

    Args:
        reporter: Receives notes, warnings and errors for the user.
    """
    close_inherited()
    try:
        # Git ends filters with SIGTERM if it fails, and closing a terminal ends them with SIGHUP. Unwinding removes
        # unfinished files, and records finished ones in the index.
        with unwinding_signals():
            return FilterProcess(reporter, begun=_begun()).run()
    except ProtocolError as error:
        reporter.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
