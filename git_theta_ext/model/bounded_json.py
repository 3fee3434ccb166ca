"""Read JSON in memory that its size bounds.

Two bytes of JSON can be an empty list of 64 bytes in memory. So what a text would make is estimated from its brackets,
quotes and commas, which is cheap, before it is read: what is written for people or of tensors stays far below.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

COST_EACH = 24
"""What a byte of JSON may make, in bytes of memory."""
COST_FREE = 1 << 16
"""What any JSON may make."""

_COSTS = {"[": 64, "{": 240, '"': 30, ",": 40}


def read_json(text: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Read JSON in at most COST_EACH times its size.

    Args:
        text: All of it.
        pairs: Makes something of an object's keys and values, a dictionary if None.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or would make more objects than its size allows.
    """
    if sum(text.count(mark) * cost for mark, cost in _COSTS.items()) > COST_EACH * len(text) + COST_FREE:
        raise ValueError("it would make too many objects for its size")
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
