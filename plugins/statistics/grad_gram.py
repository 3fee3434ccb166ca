"""The mean outer product of the loss's gradients by a Linear's outputs: what the loss makes of them."""

from __future__ import annotations

from ._gram import Gram

KIND = Gram("grad_gram", "output_gradients", 0)
