"""How git finds git-theta if it was started without the PATH of a shell, as by programs of a desktop."""

from __future__ import annotations

from git_theta_ext.settings import PATH

PROGRAM = "git-theta"

FIND = (
    f'command -v {PROGRAM} >/dev/null || {{ p=$(git config {PATH.key}); PATH="$PATH${{p:+:$p}}"; '
    f"command -v {PROGRAM} >/dev/null; }} || {{ "
    f'echo >&2 "error: {PROGRAM} is not on PATH"; '
    'echo >&2 "hint: run git theta install once in a shell that has it on PATH"; exit 129; }; '
)
"""Begins a command in git's configuration that starts ``git-theta``, also in programs that have another PATH.

Git takes 129 of a merge driver for a crash, and lower codes for a conflict.
"""
