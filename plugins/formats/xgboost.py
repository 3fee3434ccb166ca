"""Models of XGBoost: `.ubj` and `.json`, as `save_model` writes them, with groups of 16 trees as tensors.

See https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html. Files of more than 64 MiB are not split.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError

from ._trees import TreeFormat, groups, whole
from ._ubjson import trees as trees_in_ubjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content, Extent

_UBJSON = b"{L\0\0\0\0\0\0\0\x07learner{"
_JSON = re.compile(rb'\{\s*"learner"\s*:\s*\{')
_LONGEST_BEGINNING = 64
_TREES = re.compile(rb'"trees"\s*:\s*\[')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class XgBoostFormat(TreeFormat):
    """Finds the trees in the list of the booster."""

    name = "xgboost"

    def detect(self, data: Content) -> bool:
        """Return whether the file begins as such a model."""
        begin = bytes(data[:_LONGEST_BEGINNING])
        return begin.startswith(_UBJSON) or _JSON.match(begin) is not None

    def parse(self, data: Content) -> list[Extent]:
        """Find the trees. A group is named by its first tree, as in ``trees.000016``.

        Raises:
            FormatError: The file is damaged.
            NotSplittable: It has no trees, or is large.
        """
        content = whole(data)
        return groups(trees_in_ubjson(content) if bytes(content[1:2]) == b"L" else _trees_in_json(content))


FORMAT = XgBoostFormat()


def _trees_in_json(data: memoryview) -> Iterator[tuple[int, int]]:
    """Yield where each object in the list ``trees`` of the model begins and ends."""
    found = _TREES.search(data)
    if found is None:
        return
    depth = start = 0
    for token in _TOKEN.finditer(data, found.end()):
        kind = token[0][:1]
        if kind in b"{[":
            start = start if depth else token.start()
            depth += 1
        elif kind != b'"':
            depth -= 1
            if depth < 0:
                return
            if not depth:
                yield start, token.end()
    raise FormatError("the trees do not end; the file may be truncated")
