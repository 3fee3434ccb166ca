"""Read the file that says what a search tries. It holds values only: what evaluates never comes from a file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.merging.rules.file import is_every_side
from git_theta_ext.merging.rules.rules import APPLY, choice, is_fixed
from git_theta_ext.merging.rules.yaml_file import YamlFile
from git_theta_ext.merging.search.space import Dimension, Entry, Listed, Range, Space
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    import yaml

SEARCHES = ("grid", "random", "evolution")
MOST_TRIALS = 100_000
_TOP = ("version", "search", "trials", "seed", "branches", "candidates")
_ENTRY = ("method", "with", "weights", "sides")
_RANGE = ("from", "to", "steps", "scale")
_BRANCHES = ("all", "greedy")
_SCALES = ("linear", "log")
_MOST_STEPS = 1000


def read_space(text: bytes, name: str) -> Space:
    """Read what a search tries.

    Args:
        text: Content of the file.
        name: Its name, for errors.

    Raises:
        MergeError: The file is not valid.
        PluginError: A method is not installed.
    """
    return _Reader(YamlFile(name, f"edit {name}; git theta merge --search {name} --dry-run BRANCH checks it")).space(
        text
    )


class _Reader:
    """Reads the nodes of one file."""

    def __init__(self, file: YamlFile) -> None:
        self._file = file

    def space(self, text: bytes) -> Space:
        file, node = self._file, self._file.parse(text)
        if node is None:
            raise MergeError(f"{file.name} is empty", hint=file.hint)
        top = file.mapping(node, _TOP)
        if "version" not in top or file.value(top["version"]) != 1:
            raise file.error(top.get("version", node), "expected the first key to be 'version: 1'")
        if "candidates" not in top or not (entries := file.sequence(top["candidates"], "candidates")):
            raise file.error(top.get("candidates", node), "'candidates' must list at least one method")
        how = self._word(top, "search", SEARCHES)
        greedy = self._word(top, "branches", _BRANCHES) == "greedy"
        if ("trials" in top) == (how == "grid"):
            wrong = "a grid has as many candidates as its values make" if how == "grid" else "'trials' is needed"
            raise file.error(top.get("trials", top.get("search", node)), wrong)
        return Space(
            tuple(self._entry(entry, grid=how == "grid", greedy=greedy) for entry in entries),
            how,
            self._whole(top, "trials", 1, MOST_TRIALS),
            self._whole(top, "seed", 0, (1 << 32) - 1),
            greedy,
        )

    def _entry(self, node: yaml.Node, *, grid: bool, greedy: bool) -> Entry:
        file, keys = self._file, self._file.mapping(node, _ENTRY)
        method = file.value(keys["method"]) if "method" in keys else None
        if not isinstance(method, str):
            raise file.error(keys.get("method", node), "'method' must be a name")
        choice(method, origin=file.place(keys["method"]))
        options = {} if is_fixed(method) or method == APPLY else find_merge(method).contract.options
        written = self._pairs(keys["with"]) if "with" in keys else {}
        dimensions: dict[str, Dimension] = {}
        for name, value in written.items():
            whole = name in options and options[name].whole
            dimensions[name] = self._dimension(value, grid=grid, whole=whole)
            for tried in _ends(dimensions[name]):
                self._check(value, method, {name: tried})
        if "sides" in keys:
            dimensions["sides"] = self._dimension(keys["sides"], grid=grid, whole=False)
            for value in _ends(dimensions["sides"]):
                is_every_side(value, file.place(keys["sides"]))
        weights = self._weights(keys["weights"], grid=grid, greedy=greedy) if "weights" in keys else None
        for dimension in [weights] if isinstance(weights, Range) else weights or ():
            for tried in _ends(dimension):
                self._check(keys["weights"], method, {}, [tried, 1.0])
        return Entry(method, dimensions, weights)

    def _weights(self, node: yaml.Node, *, grid: bool, greedy: bool) -> tuple[Dimension, ...] | Range:
        import yaml

        if isinstance(node, yaml.SequenceNode) and not greedy:
            weights = tuple(self._dimension(entry, grid=grid, whole=False) for entry in node.value)
        else:
            spread = self._dimension(node, grid=grid, whole=False) if isinstance(node, yaml.MappingNode) else None
            if not isinstance(spread, Range):
                kind = "" if greedy else "a list with one for each side, or "
                raise self._file.error(node, f"'weights' must be {kind}a range for every side")
            weights = (spread,)
        return weights if isinstance(node, yaml.SequenceNode) else spread  # type: ignore[return-value]

    def _dimension(self, node: yaml.Node, *, grid: bool, whole: bool) -> Dimension:
        import yaml

        if isinstance(node, yaml.MappingNode):
            return self._range(node, grid=grid, whole=whole)
        values = self._file.value(node)
        listed = values if isinstance(values, list) else [values]
        if not listed or any(isinstance(v, bool) or not isinstance(v, (int, float, str)) for v in listed):
            raise self._file.error(node, "expected a value, a list of values, or a range such as {from: 0, to: 1}")
        return Listed(tuple(dict.fromkeys(listed)))

    def _range(self, node: yaml.Node, *, grid: bool, whole: bool) -> Range:
        file, keys = self._file, self._file.mapping(node, _RANGE)
        least: Any
        most: Any
        least, most = (file.value(keys[key]) if key in keys else None for key in ("from", "to"))
        if not _is_number(least) or not _is_number(most) or not least < most:
            raise file.error(node, "'from' and 'to' must be numbers, the smaller one first")
        log = self._word(keys, "scale", _SCALES) == "log"
        if log and least <= 0:
            raise file.error(node, "'from' must be above 0 if the scale is log")
        steps = self._whole(keys, "steps", 2, _MOST_STEPS) if "steps" in keys else 0
        if grid and not steps:
            raise file.error(node, "a grid needs 'steps'; search: random and search: evolution need none")
        return Range(float(least), float(most), steps, log, whole)

    def _pairs(self, node: yaml.Node) -> dict[str, yaml.Node]:
        import yaml

        if not isinstance(node, yaml.MappingNode):
            raise self._file.error(node, "'with' must be a mapping of options")
        return self._file.mapping(node, [str(self._file.value(key)) for key, _ in node.value])

    def _word(self, keys: dict[str, yaml.Node], key: str, words: tuple[str, ...]) -> str:
        """Return the word under a key; the first one if there is none."""
        word = self._file.value(keys[key]) if key in keys else words[0]
        if word not in words:
            raise self._file.error(keys[key], f"{key!r} must be one of {', '.join(words)}")
        return str(word)

    def _whole(self, keys: dict[str, yaml.Node], key: str, least: int, most: int) -> int:
        value = self._file.value(keys[key]) if key in keys else 0
        if key in keys and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most):
            raise self._file.error(keys[key], f"{key!r} must be an integer from {least} to {most}")
        return int(value)

    def _check(
        self, node: yaml.Node, method: str, options: dict[str, Any], weights: Sequence[float | str] = ()
    ) -> None:
        try:
            choice(method, options, weights, origin=self._file.place(node))
        except (MergeError, PluginError) as error:
            raise type(error)(error.message, hint=error.hint or self._file.hint) from error


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _ends(dimension: Dimension) -> tuple[float | str, ...]:
    return dimension.values if isinstance(dimension, Listed) else (dimension.least, dimension.most)
