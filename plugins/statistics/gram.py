"""The mean outer product of a Linear's inputs: what it is given, up to rotations."""

from __future__ import annotations

from ._gram import Gram

KIND = Gram("gram", "inputs", 1)
