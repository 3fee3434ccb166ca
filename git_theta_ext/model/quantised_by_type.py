"""Find the parameters that are parts of the same quantised weight by their types, whatever their exporter calls them.

These are integers or 8-bit floats with the shape of a weight, and the tensors in the same module that scale them.

A tensor counts as the numbers of a quantised weight if any version of it has one of the types below and has at least
two dimensions or a name for such numbers. I64 and BOOL are not among these types, because position ids, indices,
counters and masks have them. Tensors whose names say that they are one of these do not count either.

Another tensor of the module is a part of the weight if a word in its name is one that exporters use for parts
(``scale``, ``zero``, ``absmax``, ``codebook``...) and the rest of its name fits, or if it is a float with the shape of
scales. A plain ``bias`` or ``weight`` is not a part. A module whose ``weight`` is a plain float in all versions has no
quantised weight.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from git_theta_ext.model.dtypes import Dtype
    from git_theta_ext.model.tensor import TensorSpec

    Versions = Mapping[str, Sequence[TensorSpec | None]]
    _Stem = tuple[str, ...]


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PART_WORDS = _words_of(
    "scale scales scaling wscale qscale qscales scb cb su sv dequant quant absmax amax map state nested zero zeros zp "
    "qzeros point points lut codebook codebooks centroids biases idx perm outlier outliers format shape"
)
"""A tensor with one of these words in its name is a part."""
_NUMBER_WORDS = _words_of("weight w codes indices qidxs packed blocks qdata data")
"""Words in the names of numbers that may have only one dimension."""
_FILLERS = _PART_WORDS | _words_of("q codes indices qidxs packed block blocks qdata data inv global g 2")
"""Words that distinguish the parts of a weight: without them, their names are the same."""
_OTHER_WORDS = _words_of(
    "id ids index position positions mask token tokens type types count counts counter step steps num tracked version "
    "label labels vocab cache coords table lora hada lokr"
)
"""Words in the names of integers that are not weights, and of floats that are not scales: factors of adapters."""
_ANY_WEIGHT = frozenset(((), ("weight",), ("w",)))
"""What remains of the name of a module's own weight."""
_OF_THE_MODULE = _words_of("input output in out act activation k v q kv pre bias weight")
"""What may remain of the names of scales that belong to all weights of a module."""
_PLAIN = _words_of("bias weight beta gamma norm b")
_CONTAINERS = frozenset({"weight", "_weight", "centroids", "res_centroids", "outlier_centroids", "quant_state"})
_WORD = re.compile(r"[A-Za-z]+|[0-9]+")
_NARROW_BITS = 8
_WIDEST_BITS = 32
_MATRIX = 2
_MOST_SHAPES = 64  # of a module's weights that floats are compared with
_PACKINGS = (1, 2, 4, 8, 16)


def units_by_type(versions: Versions, claimed: Container[str]) -> list[list[str]]:
    """Return the names of the parameters of each quantised weight that has several.

    Args:
        versions: All parameters of all sides and of their common ancestor.
        claimed: Parameters that are known to be parts of quantised weights. Modules that have no others but a plain
            weight and bias are left out.
    """
    if not any(spec is not None and is_narrow(spec) for specs in versions.values() for spec in specs):
        return []
    modules: dict[str, dict[str, str]] = {}
    for name in versions:
        module, local = _split(name)
        if name not in claimed and local != "bias":
            modules[module] = {}
    for name in versions if modules else ():
        module, local = _split(name)
        if module in modules:
            modules[module][local] = name
    units: list[list[str]] = []
    for module, names in modules.items():
        there = {local: [spec for spec in versions[name] if spec is not None] for local, name in names.items()}
        units += [unit for unit in _in_module(module, there, names) if len(unit) > 1]
    return units


def _in_module(module: str, versions: Mapping[str, Sequence[TensorSpec]], names: Mapping[str, str]) -> list[list[str]]:
    """Return the units of one module; its parameters are given by the last part of their names."""
    numbers = {local for local, specs in versions.items() if _is_numbers(local, specs)}
    if not numbers or ("weight" in versions and not any(map(is_narrow, versions["weight"]))):
        return []
    narrow = dict.fromkeys(
        spec for local in versions if local in numbers for spec in versions[local] if is_narrow(spec)
    )
    shapes = list(narrow)[:_MOST_SHAPES]
    units: dict[_Stem, list[str]] = {_stem(local): [] for local in versions if local in numbers}
    one = len(units) == 1 or units.keys() <= _ANY_WEIGHT
    everyones = []
    for local, specs in versions.items():
        if local in numbers:
            units[_stem(local)].append(names[local])
        elif _is_part(local, specs, shapes):
            home = _home(_stem(local), units)
            if home is not None:
                units[home].append(names[local])
            elif _belongs_to_all(_stem(local), units, rooted=not module):
                everyones.append(names[local])
    if everyones or (one and module):
        return [[*everyones, *(name for unit in units.values() for name in unit)]]
    return list(units.values())


def _home(stem: _Stem, units: Container[_Stem]) -> _Stem | None:
    """Return the weight with the longest name that a part's name begins with."""
    return next((stem[:count] for count in range(len(stem), 0, -1) if stem[:count] in units), None)


def _belongs_to_all(stem: _Stem, units: Mapping[_Stem, object], *, rooted: bool) -> bool:
    """Return whether a part whose name contains no weight belongs to all weights of its module."""
    if units.keys() <= _ANY_WEIGHT and (not rooted or stem in _ANY_WEIGHT):
        return True
    return not rooted and set(stem) <= _OF_THE_MODULE


def united(groups: Iterable[Sequence[str]]) -> list[set[str]]:
    """Return disjoint groups: groups that share a name are united."""
    home: dict[str, set[str]] = {}
    for group in groups:
        joined = set(group)
        for other in {id(home[name]): home[name] for name in group if name in home}.values():
            joined |= other
        home.update(dict.fromkeys(joined, joined))
    return list({id(names): names for names in home.values()}.values())


@lru_cache(maxsize=4096)
def _words(local: str) -> tuple[str, ...]:
    words = (word.lower() for word in _WORD.findall(local))
    return tuple(word.removeprefix("q") if word in {"qweight", "qbias"} else word for word in words)


def _stem(local: str) -> _Stem:
    return tuple(word for word in _words(local) if word not in _FILLERS)


def _split(name: str) -> tuple[str, str]:
    """Return the module of a parameter, and its name in the module, such as ``weight.absmax``."""
    parts = name.split(".")
    at = len(parts) - 1
    while at and parts[at - 1] in _CONTAINERS:
        at -= 1
    return ".".join(parts[:at]), ".".join(parts[at:])


def is_narrow(spec: TensorSpec) -> bool:
    """Return whether quantised weights have this element type."""
    kind: Dtype = spec.dtype
    if kind.kind in ("int", "uint"):
        return kind.bits <= _WIDEST_BITS
    return kind.kind == "opaque" or (kind.kind == "float" and kind.bits <= _NARROW_BITS and kind.mantissa > 0)


def _is_numbers(local: str, specs: Sequence[TensorSpec]) -> bool:
    words = _words(local)
    if _OTHER_WORDS.intersection(words) or _PART_WORDS.intersection(words):
        return False
    least = 1 if _NUMBER_WORDS.intersection(words) else _MATRIX
    return any(is_narrow(spec) and len(spec.shape) >= least for spec in specs)


def _is_part(local: str, specs: Sequence[TensorSpec], numbers: Sequence[TensorSpec]) -> bool:
    words = _words(local)
    if _PART_WORDS.intersection(words):
        return True
    if "." in local or not words or words[-1] in _PLAIN or _OTHER_WORDS.intersection(words):
        return words == ("weight", "bias")  # of VPTQ
    wide = [spec for spec in specs if spec.dtype.kind == "float" and not is_narrow(spec)]
    return any(_scales(spec, weight) for spec in wide for weight in numbers)


def _scales(spec: TensorSpec, weight: TensorSpec) -> bool:
    """Return whether a tensor has the shape of scales of a weight: for all of it, its rows, columns or blocks."""
    shape = spec.shape
    if spec.elements >= weight.elements * _WIDEST_BITS // weight.dtype.bits:
        return False
    if not shape:
        return weight.dtype.kind != "float"
    if len(shape) == 1:
        return any(shape[0] == size * packing for size in weight.shape for packing in _PACKINGS)
    if len(shape) != len(weight.shape):
        return False
    sizes = list(zip(shape, weight.shape, strict=True))
    blocks = all(any(one and size * packing % one == 0 for packing in _PACKINGS) for one, size in sizes)
    return blocks and any(one == size for one, size in sizes)
