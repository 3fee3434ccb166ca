"""The values that routers begin with: the same bits on every machine.

Random numbers are made by exact arithmetic of the bits of Philox (Salmon et al., 2011,
https://doi.org/10.1145/2063384.2063405), which numpy never changes. Its own normal numbers may change with its version,
and logarithms with the processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.merging.experts.file import GateMode

_TERMS = 12
"""Uniform numbers whose sum has the variance 1."""
_SIXTEEN = 1 << 16


def drawn(mode: GateMode, seed: int, layer: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the weights of a router that knows nothing of its experts.

    Args:
        mode: ``random`` for numbers of variance 1 that are nearly normal, ``uniform_random`` for those that
            ``torch.nn.Linear`` begins with, or ``zeros``.
        seed: The seed.
        layer: The number of the layer.
        shape: The number of experts, and the size of a layer.
    """
    import numpy as np

    if mode == "zeros":
        return np.zeros(shape)
    count = shape[0] * shape[1]
    terms = _TERMS if mode == "random" else 1
    words = np.random.Philox(key=[seed, layer]).random_raw(-(-count * terms // 4)).astype("<u8").view("<u2")
    sums = words[: count * terms].reshape(*shape, terms).sum(2, dtype=np.int64)
    centred: NDArray[np.float64] = (2 * sums - terms * (_SIXTEEN - 1)) / (2 * _SIXTEEN)
    return centred if mode == "random" else centred * 2 / np.sqrt(np.float64(shape[1]))


def embedded(
    rows: Callable[[Sequence[int]], NDArray[np.float64]], prompts: Iterable[tuple[Sequence[int], Sequence[int]]]
) -> NDArray[np.float64]:
    """Return the weights of a router that takes hidden states for sums of the embeddings of their tokens.

    Args:
        rows: Returns the embeddings of some tokens, a row for each.
        prompts: For each expert, the numbers of all tokens that it is for, and of those that it is not for.

    Returns:
        A row for each expert: the direction of the embeddings of its tokens, less that of the others, of length 1.
    """
    import numpy as np

    def direction(row: NDArray[np.float64]) -> NDArray[np.float64]:
        length = np.sqrt(np.sum(row * row))
        return row / length if length else row

    weights = []
    for positive, negative in prompts:
        row = direction(rows(positive).sum(0))
        weights.append(direction(row - direction(rows(negative).sum(0))) if negative else row)
    return np.stack(weights)
