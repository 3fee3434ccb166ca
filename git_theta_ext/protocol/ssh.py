"""Destinations of ssh, which a stranger may have chosen."""

from __future__ import annotations

import re

# OpenSSH 9.6 refuses these as well: a ProxyCommand with %h or %r passes them to a shell.
_UNSAFE_HOST = re.compile(r"-|.*[\s\0-\x1f\x7f'\"`$\\;&<>|(){}]", re.DOTALL)
_UNSAFE_USER = re.compile(r"-|.*[\s\0-\x1f\x7f'\"`;&<>|(){}:]|.*\\$", re.DOTALL)


def is_destination(user: str | None, host: str) -> bool:
    """Return whether ssh takes a user and a host as what they are, and not as an option or a command."""
    return (
        bool(host) and not _UNSAFE_HOST.match(host) and (user is None or (user != "" and not _UNSAFE_USER.match(user)))
    )
