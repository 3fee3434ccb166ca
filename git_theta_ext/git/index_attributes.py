"""The lines of ``.gitattributes`` that give the merge driver to the indexes of sharded checkpoints.

Git stores an index as text. Merged as text, it would be in conflict wherever both sides divided or trained the model,
although it follows from the shards.
"""

from __future__ import annotations

import re

from git_theta_ext.git.attributes import quote_pattern, rules

_STATES = ("merge=theta",)
_SEVERAL = re.compile(r".*[*?\[].*\.(?:safetensors|bin)")


def add_index(text: str, pattern: str) -> str:
    """Give the merge driver to the indexes of shards that match a pattern.

    Args:
        text: The ``.gitattributes``.
        pattern: A pattern of checkpoints.

    Returns:
        The new text; the same if such shards have no index, or the indexes have a merge driver.
    """
    index = _index_of(pattern)
    found = [rule for _, rule in rules(text) if rule is not None and rule.pattern == index]
    if index is None or any(state.partition("=")[0].lstrip("-!") == "merge" for rule in found for state in rule.states):
        return text
    ending = "\r\n" if text.endswith("\r\n") else "\n"
    return f"{text}{'' if not text or text.endswith(ending) else ending}{quote_pattern(index)} {_STATES[0]}{ending}"


def remove_index(text: str, pattern: str) -> str:
    """Remove what ``add_index`` added."""
    index = _index_of(pattern)
    return "".join(
        line for line, rule in rules(text) if rule is None or rule.pattern != index or rule.states != _STATES
    )


def _index_of(pattern: str) -> str | None:
    """Return the pattern of the indexes, with their variants (``.index.fp16.json``); None for that of one file."""
    return f"{pattern}.index*.json" if _SEVERAL.fullmatch(pattern) else None
