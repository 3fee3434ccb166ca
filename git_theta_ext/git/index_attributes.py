"""The lines of ``.gitattributes`` that give the merge driver to the text files of models.

Git stores the index of shards, and the configuration of an adapter, as text. Merged as text, they would be in conflict
wherever both sides changed them, although they follow from the merged checkpoints.
"""

from __future__ import annotations

import posixpath
import re

from git_theta_ext.git.attribute_lines import quote_pattern, rules
from git_theta_ext.model.shards import CONFIG, is_adapter

_DISTRIBUTED = ".distcp"
_STATES = ("merge=theta",)
_SEVERAL = re.compile(r".*[*?\[].*\.(?:safetensors|bin)")


def add_index(text: str, pattern: str) -> str:
    """Give the merge driver to the indexes and configurations of the checkpoints that match a pattern.

    Args:
        text: The ``.gitattributes``.
        pattern: A pattern of checkpoints.

    Returns:
        The new text; the same if such checkpoints have neither, or these have a merge driver.
    """
    for name in _texts_of(pattern):
        found = [rule for _, rule in rules(text) if rule is not None and rule.pattern == name]
        if not any(state.partition("=")[0].lstrip("-!") == "merge" for rule in found for state in rule.states):
            ending = "\r\n" if text.endswith("\r\n") else "\n"
            text += f"{'' if not text or text.endswith(ending) else ending}{quote_pattern(name)} {_STATES[0]}{ending}"
    return text


def remove_index(text: str, pattern: str) -> str:
    """Remove what ``add_index`` added."""
    names = _texts_of(pattern)
    return "".join(
        line for line, rule in rules(text) if rule is None or rule.pattern not in names or rule.states != _STATES
    )


def _texts_of(pattern: str) -> list[str]:
    """Return the patterns of indexes, with their variants (``.index.fp16.json``), and of configurations."""
    if is_adapter(pattern):  # PEFT writes one file
        folder, slash, _ = pattern.rpartition("/")
        return [f"{folder}{slash}{CONFIG}"]
    if pattern.endswith(_DISTRIBUTED):
        return [posixpath.join(posixpath.dirname(pattern), ".metadata")]
    return [f"{pattern}.index*.json"] if _SEVERAL.fullmatch(pattern) else []
