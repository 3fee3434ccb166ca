"""Merge the configurations of an adapter, ``adapter_config.json``, and fit them to the merged factors."""

from __future__ import annotations

import json
import math
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from git_theta_ext.merging.planning.lora_scales import PREFIX, Fit, Scaling
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.json_text import written_like
from git_theta_ext.records import dataclass
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_MISSING = object()
_SCALES = frozenset({"r", "lora_alpha", "rank_pattern", "alpha_pattern"})
_CLOSE = 1e-9
_NO_FITS: Mapping[str, Fit] = MappingProxyType({})


@dataclass(frozen=True)
class MergedConfig:
    """A configuration that is merged by key.

    Attributes:
        versions: The configurations of the sides: first the one that alone was changed, if there is one, and ours.
        content: The merged settings.
        clashes: The settings that several sides changed differently, for which ours are kept; without ranks and scales,
            which the merged factors decide.
    """

    versions: tuple[bytes, ...]
    content: Mapping[str, Any]
    clashes: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """A message for the user; empty if there is none."""
        return f"several sides changed {shortlist(self.clashes)}, and ours is kept" if self.clashes else ""

    def fitted(self, fits: Mapping[str, Fit] = _NO_FITS) -> bytes:
        """Return the configuration in which each LoRA has a given rank and scale.

        The settings that most LoRAs have are the defaults, and the others are named in the patterns.

        Args:
            fits: Module to its rank and scale.
        """
        scaling, content = Scaling.of(self.content), dict(self.content)
        if not all(_close(scaling.fit(module), fit) for module, fit in fits.items()):
            content |= _settings(scaling, fits)
        for version in self.versions:
            if canonical(read_object(version)) == canonical(content):
                return version
        return written_like(self.versions[0].decode(), content).encode()


def merge_configs(before: bytes | None, sides: Sequence[bytes | None]) -> MergedConfig | None:
    """Merge the configurations of an adapter; None if a side has none, or one that cannot be read.

    A setting that one side changed is taken from it. Lists of names are merged as sets, because PEFT writes sets in any
    order. If several sides changed a setting differently, ours is kept.
    """
    versions = tuple(side for side in sides if side is not None and read_object(side))
    if not versions or len(versions) < len(sides):
        return None
    clashes: list[str] = []
    content = _merged(read_object(before or b""), [read_object(version) for version in versions], clashes)
    changed = dict.fromkeys(version for version in versions if version != before)
    versions = (*changed, *versions) if len(changed) == 1 else versions
    return MergedConfig(tuple(dict.fromkeys(versions)), content, tuple(key for key in clashes if key not in _SCALES))


def taken_config(config: bytes, side: bytes, taken: Collection[str], kept: Collection[str]) -> bytes:
    """Return a configuration under which some LoRAs are those of a side, and others stay what they are.

    Args:
        config: The configuration that the others have now.
        side: The configuration of the side.
        taken: The modules whose factors are taken from the side.
        kept: The other modules.

    Raises:
        MergeError: A configuration is not supported.
    """
    before, after = Scaling.of(read_object(config)), Scaling.of(read_object(side))
    fits = {module: before.fit(module) for module in kept} | {module: after.fit(module) for module in taken}
    return MergedConfig((config, side), read_object(config)).fitted(fits)


def read_object(data: bytes) -> Mapping[str, Any]:
    """Return the JSON object that a file holds; empty if it is something else."""
    try:
        value = read_json(data.decode())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def canonical(value: object) -> str:
    """Return a text by which two values are equal; lists of names are sets."""
    if isinstance(value, dict):
        return json.dumps({key: canonical(some) for key, some in value.items()}, sort_keys=True)
    return json.dumps(sorted(set(value)) if isinstance(value, list) and _is_names(value) else value, sort_keys=True)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _merged(before: Mapping[str, Any], sides: Sequence[Mapping[str, Any]], clashes: list[str]) -> dict[str, Any]:
    merged = {}
    for key in dict.fromkeys(key for side in (*sides, before) for key in side):
        old, values = before.get(key, _MISSING), [side.get(key, _MISSING) for side in sides]
        changed = {_text(value): value for value in values if _text(value) != _text(old)}
        if not changed:
            value = values[0]
        elif len(changed) == 1:
            value = next(iter(changed.values()))
        elif all(map(_is_names, values)):
            value = _united(old if _is_names(old) else [], values)
        elif all(isinstance(value, dict) for value in values):
            value = _merged(old if isinstance(old, dict) else {}, values, [])
        else:
            value = values[0]
            clashes.append(key)
        if value is not _MISSING:
            merged[key] = value
    return merged


def _text(value: object) -> str:
    return "" if value is _MISSING else canonical(value)


def _united(old: Sequence[str], sides: Sequence[Sequence[str]]) -> list[str]:
    """Return the names that a side added, and those of the ancestor that no side removed."""
    every = dict.fromkeys(name for side in (*sides, old) for name in side)
    return [name for name in every if name not in old or all(name in side for side in sides)]


def _settings(scaling: Scaling, fits: Mapping[str, Fit]) -> dict[str, Any]:
    """Return the settings of rank and alpha under which each LoRA has a given rank and scale."""
    alphas = {
        module: _whole(fit.scale * (math.sqrt(fit.rank) if scaling.stabilised else fit.rank))
        for module, fit in fits.items()
    }
    rank = Counter(fit.rank for fit in fits.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": _pattern({module: fit.rank for module, fit in fits.items()}, rank),
        "alpha_pattern": _pattern(alphas, alpha),
    }


def _pattern(values: Mapping[str, float], default: float) -> dict[str, float]:
    """Return the values of modules that do not have the default.

    A name is also a pattern for longer names that end with it, and the first one counts. So longer names come first,
    and modules with the default are among them if they end with the name of one without.
    """
    named = {module.removeprefix(PREFIX): value for module, value in values.items()}
    others = {name for name, value in named.items() if value != default}
    others |= {name for name in named if others and any(end in others for end in _ends(name))}
    return {name: named[name] for name in sorted(others, key=lambda name: (-len(name), name))}


def _ends(name: str) -> Iterator[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _whole(value: float) -> float:
    return round(value) if abs(value - round(value)) <= _CLOSE * abs(value) else value


def _close(one: Fit, other: Fit) -> bool:
    return one.rank == other.rank and math.isclose(one.scale, other.scale, rel_tol=_CLOSE)
