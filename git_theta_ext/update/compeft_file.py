"""The file of signs that ``git theta compress`` writes; git_theta_plugins.updates.compeft describes and reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KIND = "git-theta compeft 1"


def file_head(
    shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int], scale: float, density: float, alpha: float
) -> bytes:
    """Return the bytes of a file before the signs.

    Args:
        shapes: Of each parameter that has signs.
        sizes: Bytes of each one's signs, in the order in which they follow.
        scale: By which they are multiplied.
        density: The share of elements that was asked for.
        alpha: The scale as a multiple of the task vector's standard deviation.
    """
    texts = {
        "kind": _KIND,
        "scale": repr(scale),
        "density": repr(density),
        "alpha": repr(alpha),
        "shapes": json.dumps({name: list(shapes[name]) for name in sizes}, separators=(",", ":")),
    }
    header: dict[str, object] = {"__metadata__": texts}
    at = 0
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
