"""A fact about a repository or an installation, and the command to run."""

from __future__ import annotations

from typing import Literal

from git_theta_ext.records import dataclass

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """A fact, and what to do about it.

    Attributes:
        code: A stable name for programs.
        text: The fact, for people.
        command: The command to run, or a sentence with one; empty if nothing has to be done.
        state: ``ok``; ``note`` for what can be done at any time; ``problem`` for what goes wrong until it is done.
        topic: The page of the documentation about it, if there is one.
    """

    code: str
    text: str
    command: str = ""
    state: State = "note"
    topic: str | None = None
