"""Models of LightGBM: the text that `Booster.save_model` writes, with groups of 16 trees as tensors.

See https://github.com/microsoft/LightGBM/blob/master/src/boosting/gbdt_model_text.cpp. Files of more than 64 MiB are
not split.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError

from ._trees import TreeFormat, groups, whole

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Content, Extent

_BEGIN = b"tree\nversion=v"
_TREE = re.compile(rb"^(?:Tree=([0-9]{1,9})|(end of trees))$", re.MULTILINE)


class LightGbmFormat(TreeFormat):
    """Finds the trees between the header and the importances of features."""

    name = "lightgbm"

    def detect(self, data: Content) -> bool:
        """Return whether the file begins as such a text."""
        return bytes(data[: len(_BEGIN)]) == _BEGIN

    def parse(self, data: Content) -> list[Extent]:
        """Find the trees. A group is named by its first tree, as in ``trees.000016``.

        Raises:
            FormatError: A tree is missing, or the file ends among the trees.
            NotSplittable: It has no trees, or is large.
        """
        starts: list[int] = []
        for found in _TREE.finditer(whole(data)):
            if found[2]:
                ends = [*starts, found.start()][1:]
                return groups(zip(starts, ends, strict=True))
            if int(found[1]) != len(starts):
                raise FormatError(f"tree {int(found[1])} at byte {found.start()} follows {len(starts)} trees")
            starts.append(found.start())
        raise FormatError("the trees do not end; the file may be truncated")


FORMAT = LightGbmFormat()
