"""The built-in plug-ins, as their modules describe them."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext import registry
from git_theta_ext.errors import PluginError
from git_theta_ext.interfaces import MergeContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from dataclasses import Field

    from git_theta_ext.interfaces import Option

_EXAMPLES = Path(__file__).parents[2] / "tests" / "example_plugins"
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)
_REFERENCE = re.compile(r"\((?:([^()]+), )?(https?://[^\s()]+)\)")


def summaries(group: registry.Group) -> dict[str, str]:
    """Return what each plug-in of a group is, in Markdown, with a link to its paper.

    Raises:
        PluginError: A module has no summary or no plug-in.
    """
    texts = registry.summaries(group)
    for name in registry.built_in(group):
        if not texts[name]:
            raise PluginError(
                f"plugins/{group}/{name}.py needs a docstring at its beginning, with a summary in one line"
            )
        registry._find(group, name)  # noqa: SLF001 - a public function would be needed for each group
    return {name: _markdown(texts[name]) for name in registry.built_in(group)}


def _markdown(text: str) -> str:
    linked = _REFERENCE.sub(lambda match: f"([{match[1] or 'reference'}]({match[2]}))", text)
    return linked.removesuffix(".").replace("``", "`")


def options(name: str) -> str:
    """Return the options of a merge method with their defaults, in Markdown."""
    contract = _contract(name)
    words = ["weights"] if contract.weighted else []
    return ", ".join(words + [_option(key, option) for key, option in contract.options.items()])


def _option(name: str, option: Option) -> str:
    if not option.choices:
        return f"{name} {option.default:g}"
    return f"{name} {' or '.join(dict.fromkeys([str(option.default), *option.choices]))}"


def statistics(name: str) -> str:
    """Return the statistics of the branches that a merge method needs, in Markdown."""
    return ", ".join(f"`{kind}`" for kind in _contract(name).sidecars)


def _contract(name: str) -> MergeContract:
    method = registry.find_merge(name)
    if not isinstance(getattr(method, "contract", None), MergeContract):
        raise PluginError(f"plugins/merges/{name}.py needs a MergeContract as the attribute contract of METHOD")
    return method.contract


def examples() -> dict[str, list[str]]:
    """Return the name of each file of the example plug-ins, and its code as a block of Markdown."""
    files = sorted(path for path in _EXAMPLES.rglob("*") if path.suffix in (".py", ".toml"))
    return {path.stem: _fenced(path) for path in files}


def _fenced(path: Path) -> list[str]:
    language = {".py": "python", ".toml": "toml"}[path.suffix]
    return [f"```{language}", *path.read_text(encoding="utf-8").splitlines(), "```"]


def contract() -> Iterator[tuple[str, str, str]]:
    """Yield every field of the contract of merge methods: its name, default and meaning, in Markdown."""
    meanings = dict(_ATTRIBUTE.findall(cleandoc(MergeContract.__doc__ or "")))
    for field in fields(MergeContract):
        yield f"`{field.name}`", _default(field), " ".join(meanings[field.name].split()).replace("``", "`")


def _default(field: Field[object]) -> str:
    if field.default_factory is not MISSING:
        return f"`{field.default_factory()}`"
    if field.default is MISSING:
        return "none: required"
    if callable(field.default):  # made by interfaces.pieces
        fixed, one = (field.default((1,), branches) for branches in (0, 1))
        return f"`pieces({fixed:g}, {one - fixed:g})`"
    return f"`{field.default!r}`".replace("'", '"')
