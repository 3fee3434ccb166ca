"""Find the parameters that are parts of the same quantised weight.

Most are found by the table of schemes. A name alone is not enough if other models have it, too (``scales``, ``zero``):
the tensor with the quantised numbers must be there, with one of the scheme's types and not smaller than its scales. If
several schemes fit, this tensor decides. Parts with names that no scheme has are found by ``quantised_by_type``.

Versions in which a weight has other parts, because it was quantised anew or is a plain float there, are one unit: the
parts of all versions belong to it. The time is linear in the number of parameters.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from git_theta_ext.model.quantisation_schemes import BLOCKS, CERTAIN, OPAQUE, SCHEMES, SHARED, Scheme
from git_theta_ext.model.quantised_by_type import is_narrow, united, units_by_type
from git_theta_ext.model.units import QUANTISED, Unit, common_name
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.model.tensor import TensorSpec

    Versions = Mapping[str, Sequence[TensorSpec | None]]
    """Name to the specs of all versions, in the same order; None in versions that do not have the parameter."""

_WEIGHT = "weight"
_WORD_BITS = 32
_MOST_BITS = 8


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A pattern of the table, split at its ``*``; ``star`` is False if it has none."""

    text: str
    before: str
    after: str
    star: bool

    def weight(self, name: str) -> str | None:
        """Return the name of the weight that a parameter is a part of by its name, or None."""
        if not name.endswith(self.after):
            return None
        rest = name[: len(name) - len(self.after)]
        if not self.star:
            return f"{rest}{_WEIGHT}" if not rest or rest[-1] == "." else None
        module, dot, local = rest.rpartition(".")
        if not local.startswith(self.before) or local == self.before:
            return None
        return f"{module}{dot}{local[len(self.before) :]}"


def _compiled(text: str) -> _Pattern:
    before, star, after = text.partition("*")
    return _Pattern(text, before if star else "", after if star else text, bool(star))


def _ending(name: str) -> str:
    """Return the last word of a name: patterns are found by it."""
    return name[max(name.rfind("."), name.rfind("_"), name.rfind(":")) + 1 :]


def _index() -> dict[str, list[_Pattern]]:
    patterns = dict.fromkeys(chain.from_iterable((*scheme.numbers, *scheme.parts) for scheme in SCHEMES))
    index: dict[str, list[_Pattern]] = {}
    for text in patterns:
        if text != "*":
            index.setdefault(_ending(text), []).append(_compiled(text))
    return index


_PATTERNS = _index()
_BY_NUMBERS = {
    text: [number for number, scheme in enumerate(SCHEMES) if text in scheme.numbers]
    for text in chain.from_iterable(scheme.numbers for scheme in SCHEMES)
}


@dataclass
class _Weight:
    """What may be a quantised weight.

    Attributes:
        name: Name of the plain weight.
        named: Pattern to the name of the parameter that it matches.
        schemes: The schemes that fit some version.
        details: How the versions represent it, for people.
    """

    name: str
    named: dict[str, str] = field(default_factory=dict)
    schemes: list[Scheme] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    @property
    def module(self) -> str:
        """The module that has the weight, or the name of a weight that is not called ``weight``."""
        return self.name.removesuffix(f".{_WEIGHT}")

    @property
    def members(self) -> list[str]:
        """The parameters that belong to it by the schemes that fit."""
        patterns = {text for scheme in self.schemes for text in (*scheme.numbers, *scheme.parts, "*")}
        return [name for text, name in self.named.items() if text in patterns]

    def match(self, versions: Versions) -> None:
        """Find the schemes that fit."""
        previous = None
        for specs in zip_longest(*(versions[name] for name in self.named.values())):
            if specs == previous:
                continue
            previous = specs
            scheme, detail = _represented(tuple(self.named), specs)
            self.schemes += [] if scheme is None else [scheme]
            self.details += [detail] if detail else []


def quantised_weights(versions: Versions) -> list[Unit]:
    """Return the quantised weights among parameters, sorted by name.

    A weight of a single tensor is one if its type (the blocks of GGUF) or its name leaves no doubt.

    Args:
        versions: All parameters of all sides and of their common ancestor.
    """
    weights = _by_name(versions)
    fitting = [weight for weight in weights.values() if weight.schemes]
    groups = [weight.members for weight in fitting]
    groups += _shared(weights.values(), fitting)
    claimed = set(chain.from_iterable(groups))
    groups += units_by_type(versions, claimed)
    claimed.update(chain.from_iterable(groups))
    groups += _without_numbers(weights.values(), claimed)
    home = {name: weight for weight in fitting for name in weight.members}
    units = [_unit(sorted(names), home, versions) for names in united(groups)]
    return sorted(units, key=lambda unit: (unit.name, unit.members))


def _by_name(versions: Versions) -> dict[str, _Weight]:
    weights: dict[str, _Weight] = {}
    for name, specs in versions.items():
        for pattern in _PATTERNS.get(_ending(name), ()):
            key = pattern.weight(name)
            if key is not None:
                weights.setdefault(key, _Weight(key)).named.setdefault(pattern.text, name)
        if any(spec is not None and spec.dtype.kind == OPAQUE for spec in specs):
            weights.setdefault(name, _Weight(name))
    for key, weight in weights.items():
        if key in versions:
            weight.named["*"] = key
        weight.match(versions)
    return weights


@lru_cache(maxsize=4096)
def _represented(patterns: tuple[str, ...], specs: tuple[TensorSpec | None, ...]) -> tuple[Scheme | None, str]:
    """Return the scheme of one version of a weight, if one fits, and how that represents it.

    Args:
        patterns: The patterns that names match.
        specs: What has each of these names; None if the version does not have it.
    """
    there = {text: spec for text, spec in zip(patterns, specs, strict=True) if spec is not None}
    fitting = (number for text in there for number in _BY_NUMBERS.get(text, ()) if _fits(SCHEMES[number], text, there))
    first = min(fitting, default=None)
    if first is not None:
        return SCHEMES[first], _detail(SCHEMES[first], there)
    return None, there["*"].dtype.name if "*" in there else ""


def _fits(scheme: Scheme, text: str, there: Mapping[str, TensorSpec]) -> bool:
    numbers = there[text]
    if OPAQUE in scheme.types:
        return BLOCKS.fullmatch(numbers.dtype.name) is not None
    if scheme.types and numbers.dtype.name not in scheme.types:
        return False
    needed = {part: there[part] for part in scheme.needs or scheme.parts if part in there}
    if not needed or any(_too_large(part, spec, numbers) for part, spec in needed.items()):
        return False
    scales = there.get(scheme.scales)
    return not scheme.columns or "g_idx" in there or (scales is not None and scales.shape[-1:] == numbers.shape[-1:])


def _too_large(part: str, spec: TensorSpec, numbers: TensorSpec) -> bool:
    """Return whether there are more scales than there could be numbers, at one bit for each."""
    return part.endswith(("scale", "scales")) and spec.elements > numbers.elements * numbers.dtype.bits


def _detail(scheme: Scheme, there: Mapping[str, TensorSpec]) -> str:
    """Describe how a version represents a weight: the scheme, and the bits or else the type of its numbers."""
    numbers = next(there[text] for text in scheme.numbers if text in there)
    if match := BLOCKS.fullmatch(numbers.dtype.name):
        return f"{scheme.name}, {match[1]}"
    bits = scheme.bits
    zeros, scales = there.get(scheme.zeros), there.get(scheme.scales)
    if zeros is not None and scales is not None and zeros.dtype.bits == _WORD_BITS and scales.elements:
        bits = zeros.elements * _WORD_BITS // scales.elements
    return f"{scheme.name}, {bits} bits" if 1 <= bits <= _MOST_BITS else f"{scheme.name}, {numbers.dtype.name}"


def _shared(weights: Iterable[_Weight], fitting: Iterable[_Weight]) -> Iterator[list[str]]:
    """Yield the parts that several modules share, with all parts of the weights of these modules.

    The scales of the keys and values that an attention caches belong to the weights that compute them.
    """
    orphans = [weight for weight in weights if not weight.schemes and not SHARED.isdisjoint(weight.named)]
    children: dict[str, list[_Weight]] = {}
    for weight in fitting if orphans else ():
        children.setdefault(weight.module.rpartition(".")[0], []).append(weight)
    for orphan in orphans:
        around = orphan.name.removesuffix(_WEIGHT).removesuffix(".")
        for text, name in orphan.named.items():
            letter = text[0] if text[1:2] == "_" and text[0] in "kqv" else ""
            members = [
                member
                for child in (children.get(around, ()) if text in SHARED else ())
                if child.module.rpartition(".")[2].startswith(letter)
                for member in child.members
            ]
            if members:
                yield [name, *members]


def _without_numbers(weights: Iterable[_Weight], claimed: Container[str]) -> Iterator[list[str]]:
    """Yield parts whose names leave no doubt, but whose numbers are not there: they may be in another file."""
    for weight in weights:
        if weight.schemes or not _is_weight(weight.name) or "*" in weight.named:
            continue
        certain = [name for text, name in weight.named.items() if text in CERTAIN and name not in claimed]
        if certain:
            yield [name for name in weight.named.values() if name not in claimed]


def _unit(names: Sequence[str], home: Mapping[str, _Weight], versions: Versions) -> Unit:
    weights = list({id(home[name]): home[name] for name in names if name in home}.values())
    modules = [weight.module for weight in weights] or [name.removesuffix(f".{_WEIGHT}") for name in names]
    name = modules[0] if len(modules) == 1 else common_name(modules)
    if weights:
        details = [detail for weight in weights for detail in weight.details]
    else:
        specs = [spec for member in names for spec in versions[member] if spec is not None and is_narrow(spec)]
        details = sorted({spec.dtype.name for spec in specs})
    return Unit(name, QUANTISED, tuple(dict.fromkeys(details)), tuple(names))


def _is_weight(name: str) -> bool:
    return name == _WEIGHT or name.endswith(f".{_WEIGHT}")
