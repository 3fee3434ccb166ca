"""How values are merged: the seam for merge methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

Scratch = Callable[[Sequence[int], int], float]
"""From a shape and the number of branches to so many numbers; see ``MergeContract.scratch``."""

MAX_BRANCHES = 64
"""The most branches that are merged at a time."""


@dataclass(frozen=True, slots=True)
class Option:
    """A parameter that a merge method takes.

    Attributes:
        default: A number or a word.
        least: Of a number.
        most: Of a number.
        choices: The words that are allowed; empty for a number.
        whole: Whether only whole numbers are allowed.
    """

    default: float | str
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    whole: bool = False


def pieces(fixed: float = 0.0, each: float = 0.0) -> Scratch:
    """Return the scratch of a method that holds some tensors of the piece's size, and some more for each branch.

    Args:
        fixed: So many whatever the number of branches; a float64 tensor counts as two.
        each: So many more for each branch.
    """
    return lambda shape, branches: math.prod(shape) * (fixed + each * branches)


_SCRATCH = pieces(8, 6)
"""Enough for elementwise arithmetic that frees nothing early; methods that make other shapes have to say more."""


@dataclass(frozen=True)
class MergeContract:
    """What a merge method needs, from which the engine derives passes, chunks and checks (see docs/merging.md).

    Attributes:
        needs_base: Whether the common ancestor's value is required.
        symmetric: Whether the order of the branches, with their weights, leaves the result as it is.
        granularity: The smallest piece that can be merged on its own: any ``element``; whole rows (of the first
            dimension); the whole tensor (``matrix``); or the two factors of a LoRA (``pair``).
        options: Names of the parameters it takes.
        weighted: Whether it takes a weight for each branch.
        branches: The fewest and the most branches that it merges.
        trims: Whether ``Piece.trims`` is needed. Such a method has the options ``density``, ``scope`` and ``ties``.
        stochastic: Whether it draws random numbers, from ``Piece.keys``. Such a method has the option ``seed``.
        sidecars: Kinds of statistics that it needs of each branch, such as ``fisher``.
        integers: Whether it also merges integers and booleans, which then come as int64.
        exact: Whether the result has the same bits on every device, with any number of threads.
        scratch: How much a call holds at most besides inputs and result, from the piece's shape and the number of
            branches, in numbers of the piece's own type: in a piece of float32 a float64 counts as two. Merges are
            planned by it. What libraries take inside a decomposition or a sort does not count. A method for pairs is
            given outputs, inputs and the sum of the ranks as the shape, and counts its result too.
        version: To be raised with every change that may change a result's bits.
        reference: Where the method was published.
    """

    needs_base: bool
    symmetric: bool
    granularity: Literal["element", "row", "matrix", "pair"] = "element"
    options: Mapping[str, Option] = field(default_factory=dict)
    weighted: bool = False
    branches: tuple[int, int] = (1, MAX_BRANCHES)
    trims: bool = False
    stochastic: bool = False
    sidecars: tuple[str, ...] = ()
    integers: bool = False
    exact: bool = True
    scratch: Scratch = _SCRATCH
    version: int = 1
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Trim:
    """Which elements of a branch's task vector stay.

    Attributes:
        bits: Those stay of which the float32 magnitude, read as an integer, is larger.
        equal: So many of those that are just as large stay too, the first ones of the piece.
    """

    bits: int
    equal: int


@dataclass(frozen=True)
class Piece:
    """Values to be merged: all of one shape and type, on one device.

    Numbers are float32, or float64 where an input has 64-bit floats. Complex numbers come as reals with one more
    dimension of two, integers (where the contract allows them) as int64. Tensors must not be modified.

    Attributes:
        name: Of the parameter.
        base: The common ancestor's, or None where the contract needs none.
        branches: One or more.
        options: A value for each of ``MergeContract.options``.
        weights: One for each branch; all 1 where none were given.
        trims: One for each branch where the contract asks for them.
        majority: The sign, 1 or -1, of the whole scope, for elements of which the branches' votes cancel out.
        keys: A 64-bit number for each branch from which random numbers are drawn; they depend on nothing else but the
            element's place.
        start: Place of the piece's first number in the flattened tensor.
        sidecars: Kind to a tensor for each branch, as its layout in docs/merging.md says.
    """

    name: str
    base: torch.Tensor | None
    branches: tuple[torch.Tensor, ...]
    options: Mapping[str, float | str] = field(default_factory=dict)
    weights: tuple[float, ...] = ()
    trims: tuple[Trim, ...] = ()
    majority: int = 1
    keys: tuple[int, ...] = ()
    start: int = 0
    sidecars: Mapping[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Elected:
    """A merged piece, and how its signs were elected.

    Attributes:
        value: The merged numbers.
        votes: Sum of the elected signs, a tensor of one int64; elements of which the votes cancel out count nothing.
        ties: Number of elements that ``Piece.majority`` decided, likewise.
    """

    value: torch.Tensor
    votes: torch.Tensor
    ties: torch.Tensor


class MergeMethod(Protocol):
    """A pure tensor function and its contract.

    Attributes:
        name: As in ``theta.merge.method``.
        contract: What the function needs.
    """

    name: str
    contract: MergeContract

    def __call__(self, piece: Piece) -> torch.Tensor | Elected:
        """Merge one piece.

        Returns:
            The merged value, of the branches' shape and type and on their device; ``Elected`` where ``Piece.majority``
            was looked at.

        Raises:
            MergeError: These values cannot be merged by this method; the message says why.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """The factors of a LoRA: the update of a weight is ``scale`` times ``b @ a``.

    Attributes:
        a: ``lora_A``, of shape (rank, inputs), float32 or float64.
        b: ``lora_B``, of shape (outputs, rank).
        scale: Alpha over the rank, or over its root with rsLoRA.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float


class PairMethod(Protocol):
    """Merges the factors of a LoRA as one; its contract's granularity is ``pair``.

    Attributes:
        name: As in ``theta.merge.method``.
        contract: What the function needs.
    """

    name: str
    contract: MergeContract

    def rank(self, ranks: Sequence[int], sides: tuple[int, int], options: Mapping[str, float | str]) -> int:
        """Return the rank of the result.

        Args:
            ranks: Of the branches' pairs.
            sides: Inputs and outputs of the weight.
            options: A value for each of ``MergeContract.options``.
        """
        ...

    def __call__(
        self, branches: Sequence[Pair], weights: Sequence[float], options: Mapping[str, float | str]
    ) -> tuple[Pair, float]:
        """Merge the pairs of some branches, none of which is the common ancestor's.

        Returns:
            The merged pair, of scale 1, and the share of the exact result's energy (its squared Frobenius norm) that
            it lost.
        """
        ...
