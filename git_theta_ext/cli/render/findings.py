"""Findings as lines: the fact, and the command to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.util.text import printable_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.health.finding import Finding, State

_MARKS: dict[State, str] = {"ok": "ok", "note": "-", "problem": "!"}
_WIDEST = 46


def finding_lines(output: Output, findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the lines of findings; a command that does not fit beside its fact has a line of its own."""
    width = max((len(finding.text) for finding in findings if len(finding.text) <= _WIDEST), default=0)
    for finding in findings:
        fits = len(finding.text) <= width and "\n" not in finding.command
        line = f"  {_MARKS[finding.state]:2} {finding.text:{width}}" + (f"  {finding.command}" if fits else "")
        line = printable_line(line.rstrip())
        yield output.styled(line, "red") if finding.state == "problem" else line
        if finding.command and not fits:
            yield from (f"       {part}" for part in finding.command.splitlines())
