"""Vocabularies of tokenizer.json, as the tokenizers library writes it, and their union."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.model.json_text import written_like
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_TOKENIZER = 1 << 27
"""Bytes of the largest file that is read."""

_MOST_TOKENS = 1 << 26


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer.json.

    Attributes:
        text: Its text.
        content: What it holds.
        ids: Token to its number, which is that of its row in an embedding.
        added: The entries of tokens that were added to the vocabulary of the model, by token.
    """

    text: str
    content: Mapping[str, Any]
    ids: Mapping[str, int]
    added: Mapping[str, Mapping[str, Any]]

    @property
    def size(self) -> int:
        """The number of rows that an embedding needs."""
        return max(self.ids.values(), default=-1) + 1

    @classmethod
    def parse(cls, data: bytes, label: str) -> Tokenizer:
        """Read a tokenizer.json.

        Args:
            data: Its bytes.
            label: What it is, for messages.

        Raises:
            FormatError: It is none, or two tokens have the same number.
        """
        try:
            if len(data) > MAX_TOKENIZER:
                raise ValueError(f"it exceeds the limit of {MAX_TOKENIZER} bytes")  # noqa: TRY301 - one place reports
            text = data.decode()
            content = json.loads(text)
            vocabulary = content["model"]["vocab"]
            listed = isinstance(vocabulary, list)
            ids = {str(entry[0]): number for number, entry in enumerate(vocabulary)} if listed else dict(vocabulary)
            added = {str(entry["content"]): entry for entry in content.get("added_tokens") or []}
            ids |= {token: entry["id"] for token, entry in added.items()}
            if not all(type(number) is int and 0 <= number < _MOST_TOKENS for number in ids.values()):
                raise ValueError("a token has a number that is not one of a row")  # noqa: TRY301
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise FormatError(f"{label} is not a tokenizer: {error}"[:200]) from error
        if len(set(ids.values())) < len(ids):
            raise FormatError(f"{label} has two tokens of the same number")
        return cls(text, content, ids, added)


def united(ours: Tokenizer, others: Sequence[Tokenizer]) -> Tokenizer:
    """Return a tokenizer with the tokens of all sides.

    Our tokens keep their numbers. Those that we lack get the next numbers, in the order that they have on their side.
    Merges of pairs (BPE) that we lack follow ours.

    Args:
        ours: Our tokenizer, from which everything else is taken.
        others: Those of the other sides.

    Raises:
        FormatError: The models of the tokenizers have different types, or tokens cannot be added to theirs.
    """
    content = {**ours.content, "model": dict(ours.content["model"])}
    model, ids, added = content["model"], dict(ours.ids), dict(ours.added)
    following = ours.size
    for other in others:
        kind = other.content["model"].get("type")
        if kind != model.get("type"):
            raise FormatError(f"the tokenizers have models of different types: {model.get('type')} and {kind}")
        lacking = sorted(other.ids.keys() - ids.keys(), key=lambda token: other.ids[token])
        plain = [token for token in lacking if token not in other.added]
        if plain and isinstance(model["vocab"], list):
            raise FormatError(f"{plain[0]!r:.80} is not an added token, and this tokenizer takes no other new ones")
        numbers = {token: following + place for place, token in enumerate(lacking)}
        following += len(lacking)
        ids |= numbers
        added |= {token: {**other.added[token], "id": numbers[token]} for token in lacking if token in other.added}
        if plain:
            model["vocab"] = {**model["vocab"], **{token: numbers[token] for token in plain}}
            merges = list(model.get("merges") or [])
            known = {json.dumps(pair) for pair in merges}
            more = [pair for pair in other.content["model"].get("merges") or [] if json.dumps(pair) not in known]
            model |= {"merges": merges + more} if more else {}
    content["added_tokens"] = list(added.values())
    return Tokenizer(written_like(ours.text, content), content, ids, added)
