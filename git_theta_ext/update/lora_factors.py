"""Extract a LoRA from the difference of two models, as PEFT reads it (Hu et al., 2021, arXiv 2106.09685).

The factors of the best approximation of a given rank come from a singular value decomposition (Eckart and Young, 1936,
https://doi.org/10.1007/BF02288367), by way of the Gram matrix of the shorter side: its eigenvalues are the squares of
the singular values. Those below 1e-8 of the largest get lost in this, which float32 factors do not show.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.model.tensor import TensorSpec

PREFIX = "base_model.model."
"""The prefix that PEFT adds to the names of modules."""

_WEIGHT = ".weight"
_MATRIX = 2
_NOISE = 1e-8
_EMBEDDING = re.compile(r"(.*[._])?(\w*embed(?!_out)\w*|wte|wpe|shared)")
_GPT2 = re.compile(r"(.+\.)?h\.\d+\.(attn|crossattention|mlp)\.(c_attn|q_attn|c_proj|c_fc)")


@dataclass(frozen=True)
class Extracted:
    """The LoRA of one weight.

    Attributes:
        module: The module that has the weight.
        a: ``lora_A`` of shape [rank, inputs], float32.
        b: ``lora_B`` of shape [outputs, rank], float32. The update of the weight is ``b @ a``, or its transpose.
        embedding: Whether the module is an embedding, whose factors have other names.
        energy: The squared Frobenius norm of the difference.
        kept: The energy of the update.
    """

    module: str
    a: NDArray[np.float32]
    b: NDArray[np.float32]
    embedding: bool
    energy: float
    kept: float

    @property
    def rank(self) -> int:
        """The rank of the factors."""
        return int(self.a.shape[0])

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The factors under the names that PEFT gives them."""
        kind, end = ("lora_embedding_", "") if self.embedding else ("lora_", _WEIGHT)
        return {f"{PREFIX}{self.module}.{kind}{side}{end}": each for side, each in (("A", self.a), ("B", self.b))}


@dataclass(frozen=True)
class Layout:
    """Which weights of a model are embeddings, and which are stored as [inputs, outputs], as those of GPT-2 are.

    Attributes:
        transposed: Whether the linear layers that GPT-2 names are transposed.
    """

    transposed: bool

    @classmethod
    def of(cls, specs: Mapping[str, TensorSpec]) -> Layout:
        """Return the layout of a model. Others have linear layers of the same names; more outputs than inputs tell."""
        inner = (spec.shape for name, spec in specs.items() if _GPT2.fullmatch(name.removesuffix(_WEIGHT)))
        widest = [shape for shape in inner if len(shape) == _MATRIX and max(shape) >= 3 * min(shape)]
        return cls(any(shape[1] > shape[0] for shape in widest[:1]))

    def is_embedding(self, name: str) -> bool:
        """Return whether a parameter is the weight of an embedding."""
        return _EMBEDDING.fullmatch(name.removesuffix(_WEIGHT)) is not None

    def is_transposed(self, name: str) -> bool:
        """Return whether the update of a parameter is the transpose of the product of its factors."""
        return self.is_embedding(name) or (self.transposed and _GPT2.fullmatch(name.removesuffix(_WEIGHT)) is not None)


def is_weight(name: str, spec: TensorSpec) -> bool:
    """Return whether PEFT can adapt a parameter: the matrix of a linear layer or of an embedding."""
    return name.endswith(_WEIGHT) and len(spec.shape) == _MATRIX and spec.elements > 0


def extract(name: str, difference: NDArray[np.float64], layout: Layout, rank: int, energy: float) -> Extracted | None:
    """Return the LoRA of a weight that is nearest to its difference; None if there is no difference.

    Args:
        name: The name of the weight, which ``is_weight`` accepted.
        difference: The new value minus the old one.
        layout: The layout of the model.
        rank: The largest rank.
        energy: The share of the energy that suffices, for which a smaller rank may do.

    Raises:
        FormatError: The difference has NaN or infinite values.
    """
    import numpy as np

    if not np.isfinite(difference).all():
        raise FormatError(f"the difference of parameter {name!r} has NaN or infinite values")
    largest = float(abs(difference).max())
    if not largest:
        return None
    update = (difference.T if layout.is_transposed(name) else difference) / largest  # squares do not overflow
    tall = update.shape[0] > update.shape[1]
    short = update.T if tall else update
    values, vectors = np.linalg.eigh(short @ short.T)
    left = vectors[:, ::-1][:, : min(rank, len(values))]
    right = left.T @ short
    squares = np.square(right).sum(1)
    number = max(1, int((squares > squares[0] * _NOISE**2).sum()))
    total = float(np.square(update).sum())
    enough = int(np.searchsorted(np.cumsum(squares[:number]), energy * total * (1 - _NOISE))) + 1
    number = min(number, enough)
    root = np.sqrt(np.sqrt(squares[:number]) * largest)
    outer, inner = left[:, :number] * root, right[:number] * largest / root[:, None]
    b, a = (inner.T, outer.T) if tall else (outer, inner)
    return Extracted(
        name.removesuffix(_WEIGHT),
        np.ascontiguousarray(a, np.float32),
        np.ascontiguousarray(b, np.float32),
        layout.is_embedding(name),
        total * largest**2,
        min(float(squares[:number].sum()), total) * largest**2,
    )


def adapter_config(extracted: Sequence[Extracted], layout: Layout) -> dict[str, Any]:
    """Return the ``adapter_config.json`` of a LoRA whose scale is 1; ranks may differ."""
    most = max(each.rank for each in extracted)
    ranks = {each.module: each.rank for each in extracted if each.rank != most}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": most,
        "lora_alpha": most,
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
        "target_modules": [each.module for each in extracted],
        "fan_in_fan_out": layout.transposed,
        "lora_dropout": 0.0,
        "bias": "none",
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
    }
