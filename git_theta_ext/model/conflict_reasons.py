"""The reason of a merge conflict: a code for programs, and text for people.

A manifest has both as ``CODE: TEXT``. Manifests of versions without codes have the text only, which determines the
code.
"""

from __future__ import annotations

import re
from enum import Enum

from git_theta_ext.records import dataclass


class ConflictCode(Enum):
    """The kinds of conflicts. The values are part of the manifest format."""

    CHANGED = "changed"
    """Several sides changed the parameter, and the rules do not merge it."""
    ADDED = "added"
    """Several sides added the parameter with different values."""
    DELETED = "deleted"
    """One side deleted the parameter, and another changed it."""
    SHAPE = "shape"
    """The shapes of the versions differ."""
    ELEMENT_TYPE = "element-type"
    """The element types of the versions do not fit together."""
    ARITHMETIC = "arithmetic"
    """Values of this element type are not merged by arithmetic."""
    ANCESTOR = "ancestor"
    """The common ancestor has no value that fits, or there are several that differ."""
    METHOD = "method"
    """The merge method does not take such parameters, or that number of sides."""
    UNIT = "unit"
    """Parameters that belong together, such as the parts of a quantised weight, were changed by several sides."""
    FAILED = "failed"
    """The value could not be computed: an input is missing, damaged or not finite, or the result does not fit."""
    INTERRUPTED = "interrupted"
    """The merge was interrupted before the value was computed."""
    WHOLE_FILE = "whole-file"
    """Files of this format are merged as a whole."""
    FORMAT = "format"
    """The sides have files of different formats."""
    METADATA = "metadata"
    """Several sides changed what the file holds besides its tensors."""
    LAYOUT = "layout"
    """No layout can be composed for the merged parameters, or the layout depends on parameters in conflict."""
    MODEL = "model"
    """Parameters of a model moved between its files, and git merges files one by one."""
    OTHER = "other"
    """A reason that this version does not know."""


# The texts of manifests without codes.
_TEXTS = (
    (ConflictCode.METHOD, r"changed by (both|\d+ sides), and (a change is|the method) .*|only the two factors of .*"),
    (ConflictCode.ARITHMETIC, r"changed by (both|\d+ sides), and \S+ values are not merged .*"),
    (ConflictCode.ANCESTOR, r"changed by (both|\d+ sides), and the common ancestor .*|the common ancestors differ.*"),
    (ConflictCode.CHANGED, r"changed by (both|\d+ of \d+ sides)"),
    (ConflictCode.ADDED, r"added by .*, differently"),
    (ConflictCode.DELETED, r"deleted by .*|(added|changed) by \w+, .*deleted by .*"),
    (ConflictCode.SHAPE, r"shapes? (differ|changed) .*|shapes differ: .*|several sides changed the number of rows: .*"),
    (ConflictCode.ELEMENT_TYPE, r"the element type was changed to .*|the sides have numbers of different kinds: .*"),
    (ConflictCode.UNIT, r"part of .*"),
    (ConflictCode.FAILED, r"whether a side only .*|no threshold can be .*|[0-9a-f]{64} is not in the store"),
    (ConflictCode.FAILED, r".* has NaN or infinite values|.* does not fit \S+|not all values fit \S+"),
    (ConflictCode.INTERRUPTED, r"the merge was killed before it was computed"),
    (ConflictCode.WHOLE_FILE, r"files of this format are merged as a whole"),
    (ConflictCode.FORMAT, r"the sides have different formats"),
    (ConflictCode.METADATA, r"(both|several sides) changed what lies beside the tensors: .*"),
    (ConflictCode.LAYOUT, r"depends on the parameters in conflict|files of this format cannot be laid out anew .*"),
)
_CODES = {code.value: code for code in ConflictCode}


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason of a conflict.

    Attributes:
        written: The reason as written in a manifest.
    """

    written: str

    @classmethod
    def of(cls, code: ConflictCode, text: str) -> Reason:
        """Return a reason.

        Args:
            code: The kind of conflict.
            text: The details, for people.
        """
        return cls(f"{code.value}: {text}")

    @property
    def code(self) -> ConflictCode:
        """The kind of conflict."""
        code, separator, _ = self.written.partition(": ")
        if separator and code in _CODES:
            return _CODES[code]
        return next((code for code, text in _TEXTS if re.fullmatch(text, self.written)), ConflictCode.OTHER)

    @property
    def text(self) -> str:
        """The details, for people."""
        code, separator, text = self.written.partition(": ")
        return text if separator and code in _CODES else self.written

    def __str__(self) -> str:
        return self.text
