"""Merge the values of parameters: the interface of merge methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces.arrays import Array

Scratch = Callable[[Sequence[int], int], float]
"""From a shape and the number of branches to a count of numbers; see ``MergeContract.scratch``."""

MAX_BRANCHES = 64
"""The maximum number of branches of a merge."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a merge method.

    Attributes:
        default: A number or a word.
        least: The minimum of a number.
        most: The maximum of a number.
        choices: The words that are allowed; empty for a number.
        whole: Whether a number has to be an integer.
    """

    default: float | str
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    whole: bool = False


def pieces(fixed: float = 0.0, each: float = 0.0) -> Scratch:
    """Return the scratch of a method that allocates tensors of the size of the piece.

    Args:
        fixed: The number of tensors that does not depend on the number of branches; a float64 tensor counts as two.
        each: The number of tensors for each branch.
    """
    return lambda shape, branches: math.prod(shape) * (fixed + each * branches)


_SCRATCH = pieces(8, 6)
"""Enough for elementwise arithmetic that frees nothing early; methods that make other shapes declare more."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """Steps by which a compiled kernel does what a method does with arrays, in one pass.

    The differences of the branches from the base are trimmed by ``Piece.trims`` if the method trims, dropped at random
    by ``Piece.keys`` if it is stochastic, multiplied by ``Piece.weights``, combined, scaled, and added to the base.

    Attributes:
        combine: ``sum``; or the mean of those that agree with the sign that is elected by ``mass`` or by ``count``, as
            TIES elects it. ``mean`` is the weighted mean of the branches themselves, without a base, and the only step.
        scale: The factor of the combined difference.
        kept: The probability to keep a difference that may be dropped, by which those that are kept are divided.
    """

    combine: Literal["mean", "sum", "mass", "count"]
    scale: float = 1.0
    kept: float = 1.0


@dataclass(frozen=True)
class MergeContract:
    """What a merge method needs, promises and costs. The engine derives passes, pieces and checks from it.

    Attributes:
        needs_base: Whether the method needs the value of the common ancestor. It is read too, and a parameter that the
            ancestor does not have in this shape is a conflict.
        symmetric: Whether the result does not depend on the order of the branches with their weights. The conformance
            suite tests it.
        granularity: The smallest piece that can be merged on its own. ``element`` takes the least memory and time:
            pieces of any elements are merged while others are read. ``row`` gets blocks of whole rows (of the first
            dimension), and ``matrix`` the whole tensor of every input. ``pair`` gets the two factors of a LoRA.
        options: The options by name. They are checked before the merge and passed in ``Piece.options``.
        weighted: Whether the method takes a weight for each branch, from ``Piece.weights``. Otherwise weights are an
            error.
        negative_weights: Whether weights may be negative. Set it only if the method never divides by weights.
        branches: The minimum and maximum number of branches. A parameter that more or fewer branches changed is a
            conflict.
        trims: Whether the method needs ``Piece.trims``. The task vectors are read once more for it. The method must
            have the options ``density``, ``scope`` and ``ties``.
        stochastic: Whether the method draws random numbers, from ``Piece.keys``. It must have the option ``seed``.
        sidecars: The kinds of statistics that the method needs of each branch, such as ``fisher``. Users have to
            collect them first; ``Piece.sidecars`` has a kind only if every branch has it.
        needs_sidecars: Whether a parameter of which a branch has no statistics is a conflict. Otherwise the method
            merges it in another way.
        integers: Whether the method also merges integers and booleans, which it gets as int64. Otherwise those that
            several branches changed are a conflict.
        integer_obstacle: Function from the options and weights to the reason why integers cannot be merged with them;
            empty if they can. Plans show it, and the method raises it as a ``MergeError``.
        exact: Whether the result has the same bits on every device and with any number of threads. The default
            promises it, so set it to False for matrix products, decompositions and sums in an order that the library
            chooses. If a replay of the merge then has another result, it names the method as a possible reason.
        scratch: The memory that a call allocates besides inputs and result, from the shape of the piece and the number
            of branches, in numbers of the type of the piece: in a float32 piece a float64 counts as two. The default
            is enough for elementwise arithmetic. Merges are scheduled by it: too little may exhaust the memory, too
            much merges fewer pieces at a time. What libraries allocate in a decomposition or a sort does not count. A
            method of pairs gets outputs, inputs and the sum of the ranks as the shape, and counts its result too.
        version: Increased with every change that may change a bit of a result. A replay refuses another version than
            the merge had.
        reference: The URL of the publication.
        arrays: Whether the method takes arrays of numpy as well as tensors of torch. If it does, it gets arrays on the
            CPU, and torch need not be installed. Otherwise it always gets tensors.
        fused: Function from the options to steps that give the same bits for finite BF16, F16 and F32 values, of
            methods of granularity ``element`` without sidecars. The engine takes a compiled kernel then, if it has one;
            the conformance suite compares the two.
    """

    needs_base: bool
    symmetric: bool
    granularity: Literal["element", "row", "matrix", "pair"] = "element"
    options: Mapping[str, Option] = field(default_factory=dict)
    weighted: bool = False
    negative_weights: bool = False
    branches: tuple[int, int] = (1, MAX_BRANCHES)
    trims: bool = False
    stochastic: bool = False
    sidecars: tuple[str, ...] = ()
    needs_sidecars: bool = False
    integers: bool = False
    integer_obstacle: Callable[[Mapping[str, float | str], Sequence[float]], str] | None = None
    exact: bool = True
    scratch: Scratch = _SCRATCH
    version: int = 1
    reference: str = ""
    arrays: bool = False
    fused: Callable[[Mapping[str, float | str]], Fusion] | None = None


@dataclass(frozen=True, slots=True)
class Trim:
    """Which elements of the task vector of a branch are kept.

    Attributes:
        bits: Elements are kept if the bits of their float32 magnitude, as an integer, are larger.
        equal: The number of elements of exactly that magnitude that are kept, the first ones of the piece.
    """

    bits: int
    equal: int


ALL_EQUALS = 1 << 62
"""For ``Trim.equal``: all of them."""


@dataclass(frozen=True)
class Piece:
    """Values to merge, all of one shape and type and on one device: tensors, or arrays if the contract takes them.

    Numbers are float32, or float64 if an input has 64-bit floats. Complex numbers are reals with one more dimension of
    two; integers, if the contract allows them, are int64. None of them may be modified.

    Attributes:
        name: The name of the parameter.
        base: The value of the common ancestor, or None if the contract does not need it.
        branches: The value of each branch, at least one.
        options: A value for each of ``MergeContract.options``.
        weights: One for each branch; all 1 if none are set.
        trims: One for each branch if the contract has ``trims``.
        majority: The sign, 1 or -1, of the whole scope, for elements whose votes cancel out.
        keys: A 64-bit number for each branch. Random numbers depend on it and on the position of the element only.
        start: The position of the first number of the piece in the flattened tensor.
        sidecars: For each kind of statistics a tensor for each branch, as docs/statistics.md describes it.
    """

    name: str
    base: Array | None
    branches: tuple[Array, ...]
    options: Mapping[str, float | str] = field(default_factory=dict)
    weights: tuple[float, ...] = ()
    trims: tuple[Trim, ...] = ()
    majority: int = 1
    keys: tuple[int, ...] = ()
    start: int = 0
    sidecars: Mapping[str, tuple[Array, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Elected:
    """A merged piece, and the result of the election of its signs.

    Attributes:
        value: The merged numbers.
        votes: The sum of the elected signs, a tensor of one int64; elements whose votes cancel out count 0.
        ties: The number of elements whose sign is ``Piece.majority``, a tensor of one int64.
    """

    value: Array
    votes: Array
    ties: Array


class MergeMethod(Protocol):
    """A pure tensor function and its contract.

    Attributes:
        name: The name in ``theta.merge.method``.
        contract: What the method needs.
    """

    name: str
    contract: MergeContract

    def __call__(self, piece: Piece) -> Array | Elected:
        """Merge one piece.

        Returns:
            The merged value, with the shape, type and device of the branches; ``Elected`` if the method uses
            ``Piece.majority``.

        Raises:
            MergeError: The method cannot merge these values; the message says why.
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

    a: Array
    b: Array
    scale: float


class PairMethod(Protocol):
    """Merges the two factors of LoRAs together; the granularity of its contract is ``pair``.

    Attributes:
        name: The name in ``theta.merge.method``.
        contract: What the method needs.
    """

    name: str
    contract: MergeContract

    def rank(self, ranks: Sequence[int], sides: tuple[int, int], options: Mapping[str, float | str]) -> int:
        """Return the rank of the result.

        Args:
            ranks: The ranks of the pairs of the branches.
            sides: The numbers of inputs and outputs of the weight.
            options: A value for each of ``MergeContract.options``.
        """
        ...

    def __call__(
        self, branches: Sequence[Pair], weights: Sequence[float], options: Mapping[str, float | str]
    ) -> tuple[Pair, float]:
        """Merge the pairs of the branches; there is no pair of the common ancestor.

        Returns:
            The merged pair, whose scale is 1, and the share of the energy (the squared Frobenius norm) of the exact
            result that it loses.
        """
        ...
