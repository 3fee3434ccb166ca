"""Read a tutorial: its commands, files and outputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from git_theta_ext.errors import UsageError

_COMMENT = re.compile(r"<!-- *(file|exit|needs|server|not run|run)(?:: *(.*?))? *(?:-->|$)")


@dataclass(frozen=True)
class Step:
    """A block that is executed.

    Attributes:
        line: Number of its first line in the page, from 1.
        script: What the shell runs.
        status: The exit status of its last command.
        shown: First line and line behind the last of its output in the page, as indices; None if the page shows none.
    """

    line: int
    script: str
    status: int = 0
    shown: tuple[int, int] | None = None


@dataclass(frozen=True)
class Page:
    """A tutorial.

    Attributes:
        lines: Its text.
        steps: What is executed, in order.
        needs: Programs and Python packages without which it cannot run.
        servers: Services that something local stands in for.
    """

    lines: tuple[str, ...]
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()

    def output(self, step: Step) -> list[str]:
        """Return the lines that the page shows as a step's output."""
        start, end = step.shown or (0, 0)
        return list(self.lines[start:end])

    def with_outputs(self, outputs: dict[Step, list[str]]) -> str:
        """Return the text of the page with other outputs."""
        lines = list(self.lines)
        for step in sorted(outputs, key=lambda step: step.line, reverse=True):
            if step.shown is not None:
                lines[slice(*step.shown)] = outputs[step]
        return "\n".join(lines) + "\n"


@dataclass
class _Reader:
    lines: list[str]
    steps: list[Step] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)

    def read(self) -> Page:
        at = 0
        while at < len(self.lines):
            line = self.lines[at]
            if line.startswith("```"):
                end = self._end(at, "```")
                self._block(at, end, line[3:].strip())
                at = end
            elif line.startswith("<!--"):
                at = self._comment(at, line)
            at += 1
        return Page(tuple(self.lines), tuple(self.steps), tuple(self.needs), tuple(self.servers))

    def _end(self, at: int, mark: str) -> int:
        for end in range(at + 1, len(self.lines)):
            if self.lines[end] == mark:
                return end
        raise UsageError(f"line {at + 1}: nothing ends with {mark} what begins here")

    def _comment(self, at: int, line: str) -> int:
        match = _COMMENT.fullmatch(line)
        if match is None:
            raise UsageError(f"line {at + 1}: unknown comment {line}")
        kind, value = match[1], match[2] or ""
        if kind == "run":
            end = self._end(at, "-->")
            self.steps.append(Step(at + 2, "\n".join(self.lines[at + 1 : end])))
            return end
        if kind in {"needs", "server"}:
            (self.needs if kind == "needs" else self.servers).extend(value.split())
        else:
            self.marks[kind] = value
        return at

    def _check_named(self, start: int, path: str) -> None:
        """Check that readers, who see no mark, are told the name of the file that a block is saved as."""
        before = [number for number in range(start) if self.lines[number].startswith(("```", "#"))]
        name = path.rpartition("/")[2]
        if f"`{name}`" not in "\n".join(self.lines[max(before, default=-1) + 1 : start]):
            raise UsageError(f"line {start + 1}: the text before this block does not say that it is `{name}`")

    def _block(self, start: int, end: int, language: str) -> None:
        marks, self.marks = self.marks, {}
        text = "\n".join(self.lines[start + 1 : end])
        if "file" in marks:
            self._check_named(start, marks["file"])
            self.steps.append(Step(start + 2, f"cat > {marks['file']} <<'END-OF-BLOCK'\n{text}\nEND-OF-BLOCK"))
        elif language == "sh" and "not run" not in marks:
            self.steps.append(Step(start + 2, text, int(marks.get("exit", 0))))
        elif language == "text":
            if not self.steps or self.steps[-1].shown is not None:
                raise UsageError(f"line {start + 1}: output without commands before it")
            last = self.steps[-1]
            self.steps[-1] = Step(last.line, last.script, last.status, (start + 1, end))


def read(text: str) -> Page:
    """Read a tutorial.

    Raises:
        UsageError: A mark is not understood.
    """
    return _Reader(text.splitlines()).read()
