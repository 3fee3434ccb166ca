"""Read JSON with memory bounded by its size.

Two bytes of JSON can become an empty list of 64 bytes in memory. Before a text is parsed, its memory is therefore
estimated from its brackets, quotes and commas, which is cheap. Text for people and headers of tensors stay far below
the limit.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

COST_EACH = 24
"""The limit of memory for each byte of JSON, in bytes."""
COST_FREE = 1 << 16
"""The memory that any JSON may take, in bytes."""

_COSTS = {"[": 64, "{": 240, '"': 30, ",": 40}


def read_json(text: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Read JSON with at most COST_EACH times its size in memory.

    Args:
        text: The whole text.
        pairs: Converts the key-value pairs of an object; None for dictionaries.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or would take more memory than its size allows.
    """
    if sum(text.count(mark) * cost for mark, cost in _COSTS.items()) > COST_EACH * len(text) + COST_FREE:
        raise ValueError("it would make too many objects for its size")
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
