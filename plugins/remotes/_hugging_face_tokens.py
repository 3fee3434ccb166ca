"""The user's tokens for Hugging Face, where its own programs keep them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ._credentials import Credential
from ._git_hosts import on_hugging_face

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")
_LARGEST = 1 << 12


def wants_token(url: str) -> bool:
    """Return whether a URL may get a token: only Hugging Face itself, and only encrypted."""
    return urlsplit(url).scheme == "https" and on_hugging_face(url)


def token_of_environment(environment: Mapping[str, str]) -> Credential | None:
    """Return the token in ``HF_TOKEN``, or in the variable that preceded it."""
    for name in _VARIABLES:
        if token := environment.get(name, "").strip():
            return _credential(name, token)
    return None


def token_of_login(environment: Mapping[str, str]) -> Credential | None:
    """Return the token that ``hf auth login`` has written to a file."""
    home = environment.get("HOME", "")
    cache = environment.get("XDG_CACHE_HOME") or f"{home}/.cache"
    folder = environment.get("HF_HOME") or f"{cache}/huggingface"
    path = Path(environment.get("HF_TOKEN_PATH") or f"{folder}/token")
    if path.parts[:1] == ("~",):
        path = Path(home, *path.parts[1:])
    try:
        with path.open("rb") as file:
            token = file.read(_LARGEST).decode().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return _credential("the token of hf auth login", token)


def _credential(source: str, token: str) -> Credential | None:
    """Return a token as a credential, unless it could change the framing of a request."""
    return Credential(source, "", token, bearer=True) if _TOKEN.fullmatch(token) else None
