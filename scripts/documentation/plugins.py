"""The built-in plug-ins, as their modules describe them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext import registry

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Option

_REFERENCE = re.compile(r"\((?:([^()]+), )?(https?://[^\s()]+)\)")


def summaries(group: registry.Group) -> dict[str, str]:
    """Return what each plug-in of a group is, in Markdown, with a link to its paper."""
    found = registry.summaries(group)
    return {name: _markdown(found[name]) for name in registry.built_in(group)}


def _markdown(text: str) -> str:
    linked = _REFERENCE.sub(lambda match: f"([{match[1] or 'reference'}]({match[2]}))", text)
    return linked.removesuffix(".").replace("``", "`")


def options(name: str) -> str:
    """Return the options of a merge method with their defaults, in Markdown."""
    contract = registry.find_merge(name).contract
    words = ["weights"] if contract.weighted else []
    return ", ".join(words + [_option(key, option) for key, option in contract.options.items()])


def _option(name: str, option: Option) -> str:
    if not option.choices:
        return f"{name} {option.default:g}"
    return f"{name} {' or '.join(dict.fromkeys([str(option.default), *option.choices]))}"


def statistics(name: str) -> str:
    """Return the statistics of the branches that a merge method needs, in Markdown."""
    return ", ".join(f"`{kind}`" for kind in registry.find_merge(name).contract.sidecars)
