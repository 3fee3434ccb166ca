"""Find plug-ins by name: the built-in ones from a table, others through entry points.

Scanning entry points costs 100 ms, so it happens only where the table does not know a name.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

from git_theta_ext.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Encoding, Format, MergeMethod, OpenRemote, PairMethod
    from git_theta_ext.model.content import Content

Group = Literal["formats", "encodings", "merges", "remotes"]

# The same names as in setup.cfg; a test compares the two. Formats are tried in this order, `opaque` last.
BUILT_IN: dict[Group, dict[str, str]] = {
    "formats": {
        "safetensors": "git_theta_plugins.formats.safetensors:FORMAT",
        "torch_zip": "git_theta_plugins.formats.torch_zip:FORMAT",
        "npz": "git_theta_plugins.formats.npz:FORMAT",
        "gguf": "git_theta_plugins.formats.gguf:FORMAT",
        "opaque": "git_theta_plugins.formats.opaque:FORMAT",
    },
    "encodings": {
        "dense": "git_theta_plugins.encodings.dense:ENCODING",
        "delta": "git_theta_plugins.encodings.delta:ENCODING",
        "scale": "git_theta_plugins.encodings.scale:ENCODING",
        "low_rank": "git_theta_plugins.encodings.low_rank:ENCODING",
        "ternary": "git_theta_plugins.encodings.ternary:ENCODING",
    },
    "merges": {
        "average": "git_theta_plugins.merges.average:METHOD",
        "task_arithmetic": "git_theta_plugins.merges.task_arithmetic:METHOD",
        "ties": "git_theta_plugins.merges.ties:METHOD",
        "dare": "git_theta_plugins.merges.dare:METHOD",
        "della": "git_theta_plugins.merges.della:METHOD",
        "breadcrumbs": "git_theta_plugins.merges.breadcrumbs:METHOD",
        "consensus_ta": "git_theta_plugins.merges.consensus_ta:METHOD",
        "slerp": "git_theta_plugins.merges.slerp:METHOD",
        "nuslerp": "git_theta_plugins.merges.nuslerp:METHOD",
        "multislerp": "git_theta_plugins.merges.multislerp:METHOD",
        "karcher": "git_theta_plugins.merges.karcher:METHOD",
        "model_stock": "git_theta_plugins.merges.model_stock:METHOD",
        "tsv_m": "git_theta_plugins.merges.tsv_m:METHOD",
        "iso_c": "git_theta_plugins.merges.iso_c:METHOD",
        "knots": "git_theta_plugins.merges.knots:METHOD",
        "actmat": "git_theta_plugins.merges.actmat:METHOD",
        "fisher": "git_theta_plugins.merges.fisher:METHOD",
        "regmean": "git_theta_plugins.merges.regmean:METHOD",
        "mats": "git_theta_plugins.merges.mats:METHOD",
        "lora_concat": "git_theta_plugins.merges.lora_concat:METHOD",
        "lora_svd": "git_theta_plugins.merges.lora_svd:METHOD",
        "max": "git_theta_plugins.merges.max:METHOD",
        "sum": "git_theta_plugins.merges.sum:METHOD",
    },
    "remotes": {
        "directory": "git_theta_plugins.remotes.directory:open_remote",
        "kvstore": "git_theta_plugins.remotes.kvstore:open_remote",
    },
}


def _load(target: str) -> object:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def _entry_points(group: Group) -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=f"git_theta_ext.{group}")}


@cache
def _find(group: Group, name: str) -> object:
    target = BUILT_IN[group].get(name)
    if target is not None:
        return _load(target)
    point = _entry_points(group).get(name)
    if point is None:
        known = ", ".join(sorted({*BUILT_IN[group], *_entry_points(group)}))
        raise PluginError(
            f"there is no plug-in {name!r} among the {group}",
            hint=f"known are {known}; install the package that brings it",
        )
    return cast("object", point.load())


def names(group: Group) -> list[str]:
    """Return the names of all plug-ins of a group that are installed, the built-in ones first."""
    return [*BUILT_IN[group], *sorted(set(_entry_points(group)) - set(BUILT_IN[group]))]


def find_format(name: str) -> Format:
    """Return a format by name.

    Raises:
        PluginError: No such format is installed.
    """
    return cast("Format", _find("formats", name))


def find_encoding(name: str) -> Encoding:
    """Return an encoding by name.

    Raises:
        PluginError: No such encoding is installed.
    """
    return cast("Encoding", _find("encodings", name))


def find_merge(name: str) -> MergeMethod:
    """Return a merge method by name.

    Raises:
        PluginError: No such method is installed.
    """
    return cast("MergeMethod", _find("merges", name))


def find_pair(name: str) -> PairMethod:
    """Return a method that merges the factors of a LoRA.

    Raises:
        PluginError: No such method is installed, or it merges single tensors.
    """
    found = _find("merges", name)
    if cast("PairMethod", found).contract.granularity != "pair":
        raise PluginError(f"method {name!r} does not merge the factors of a LoRA", hint="use lora_svd or lora_concat")
    return cast("PairMethod", found)


def find_remote(name: str) -> OpenRemote:
    """Return what opens remotes of a kind.

    Raises:
        PluginError: No such kind is installed.
    """
    return cast("OpenRemote", _find("remotes", name))


def detect_format(data: Content) -> Format:
    """Return the first format that recognises a file by its content.

    The built-in ones come first. Those of other packages are asked only before the file falls to ``opaque``, and only
    where it is large enough for the scan of entry points not to matter.
    """
    for name in BUILT_IN["formats"]:
        if name != "opaque" and (found := find_format(name)).detect(data):
            return found
    for found in _others(data.nbytes):
        if found.detect(data):
            return found
    return find_format("opaque")


def _others(nbytes: int) -> Iterator[Format]:
    if nbytes >= 1 << 16:
        for name in sorted(set(_entry_points("formats")) - set(BUILT_IN["formats"])):
            yield find_format(name)
