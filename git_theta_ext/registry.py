"""Find plug-ins by name: a built-in one is the module of that name, those of other packages are entry points.

The name of a plug-in is that of its module in ``git_theta_plugins.<group>``, and nothing else lists it. Other packages
register theirs in the entry point group ``git_theta_ext.<group>``. Reading entry points takes tens of milliseconds, so
it happens only if a package has any and there is no built-in plug-in of the name; a built-in name is not taken over.
"""

from __future__ import annotations

import importlib
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Literal, cast

from git_theta_ext.errors import PluginError, ThetaError
from git_theta_ext.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint

    from git_theta_ext.interfaces import (
        Container,
        Encoding,
        Format,
        MergeMethod,
        PairMethod,
        RemoteType,
        StatisticsKind,
        UpdateKind,
    )
    from git_theta_ext.model.content import Content

Group = Literal["formats", "containers", "encodings", "merges", "remotes", "statistics", "updates"]


class _Kind(NamedTuple):
    noun: str
    attribute: str
    """What a module of the group calls its plug-in."""


_KINDS: dict[Group, _Kind] = {
    "formats": _Kind("format", "FORMAT"),
    "containers": _Kind("container", "CONTAINER"),
    "encodings": _Kind("encoding", "ENCODING"),
    "merges": _Kind("merge method", "METHOD"),
    "remotes": _Kind("type of remote", "REMOTE"),
    "statistics": _Kind("kind of statistics", "KIND"),
    "updates": _Kind("kind of update", "KIND"),
}
_ASKED_FIRST = ("safetensors", "torch_zip")
"""Formats of most checkpoints: if one of them recognises a file, the others need not be imported."""


def built_in(group: Group) -> list[str]:
    """Return the names of a group's built-in plug-ins, sorted; imports none of them."""
    import pkgutil

    package = importlib.import_module(f"git_theta_plugins.{group}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def names(group: Group) -> list[str]:
    """Return the names of all plug-ins of a group that are installed, the built-in ones first; imports none of them."""
    return [*built_in(group), *sorted(_entry_points(group))]


def summaries(group: Group) -> dict[str, str]:
    """Return the name and the summary of all plug-ins of a group that are installed, in the order of ``names``.

    A summary is the first line of the module's docstring. Modules are read, not imported.

    Raises:
        PluginError: A module cannot be found.
    """
    own = {name: f"git_theta_plugins.{group}.{name}" for name in built_in(group)}
    others = {name: points[0].module for name, points in sorted(_entry_points(group).items())}
    return {name: _summary(group, name, module) for name, module in {**own, **others}.items()}


def find_format(name: str) -> Format:
    """Return a format by name.

    Raises:
        PluginError: No such format is installed.
    """
    return cast("Format", _find("formats", name))


def find_container(name: str) -> Container:
    """Return a container by name.

    Raises:
        PluginError: No such container is installed.
    """
    return cast("Container", _find("containers", name))


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
    method = cast("PairMethod", _find("merges", name))
    if method.contract.granularity != "pair":
        raise PluginError(
            f"method {name!r} does not merge the factors of a LoRA",
            hint="git theta resolve --method lora_svd, or lora_concat",
        )
    return method


def find_remote(name: str) -> RemoteType:
    """Return a type of remotes by name.

    Raises:
        PluginError: No such type is installed.
    """
    return cast("RemoteType", _find("remotes", name))


def find_statistics(name: str) -> StatisticsKind:
    """Return a kind of statistics by name.

    Raises:
        PluginError: No such kind is installed.
    """
    return cast("StatisticsKind", _find("statistics", name))


def find_update(name: str) -> UpdateKind:
    """Return a kind of updates by name.

    Raises:
        PluginError: No such kind is installed.
    """
    return cast("UpdateKind", _find("updates", name))


def remote_of_scheme(scheme: str) -> RemoteType:
    """Return the type of remotes that opens URLs of a scheme; the empty one is that of plain paths.

    The built-in types are asked first, then those of other packages in the order of their names.

    Raises:
        PluginError: No installed type does.
    """
    for name in _remote_names():
        if scheme in (candidate := find_remote(name)).schemes:
            return candidate
    raise PluginError(
        f"no installed type of remote opens {scheme}:// URLs",
        hint="install the package that does, or git config theta.remote.NAME.type TYPE "
        f"(installed are {', '.join(names('remotes'))})",
    )


def _remote_names() -> Iterator[str]:
    yield from built_in("remotes")
    yield from sorted(_entry_points("remotes"))


def detect_format(data: Content) -> Format:
    """Return the first format that recognises a file by its content.

    The built-in formats are asked first, then those of other packages. A file that none of them recognises is
    ``opaque``.
    """
    for name in _format_names():
        if (candidate := find_format(name)).detect(data):
            return candidate
    return find_format("opaque")


def detect_container(data: Content) -> Container | None:
    """Return the first container that recognises a file by its content, the built-in ones first; None if none does."""
    candidates = map(find_container, chain(built_in("containers"), sorted(_entry_points("containers"))))
    return next((candidate for candidate in candidates if candidate.detect(data)), None)


def _format_names() -> Iterator[str]:
    """Yield the formats in the order in which they are asked; what is listed later costs time to list."""
    yield from _ASKED_FIRST
    yield from (name for name in built_in("formats") if name not in {*_ASKED_FIRST, "opaque"})
    yield from sorted(_entry_points("formats"))


@cache
def _find(group: Group, name: str) -> object:
    plugin = _built_in_plugin(group, name) or _other_plugin(group, name)
    own_name = getattr(plugin, "name", name)
    if own_name != name:
        raise PluginError(f"{_KINDS[group].noun} {name!r} has the name {own_name!r}: the names must be equal")
    return plugin


def _built_in_plugin(group: Group, name: str) -> object | None:
    if not name.isidentifier() or name.startswith("_"):
        return None
    module = f"git_theta_plugins.{group}.{name}"
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None
    noun, attribute = _KINDS[group]
    if not hasattr(imported, attribute):
        raise PluginError(f"plugins/{group}/{name}.py needs a constant {attribute} with the {noun}")
    return cast("object", getattr(imported, attribute))


def _other_plugin(group: Group, name: str) -> object:
    """Return the plug-in of a name that another package registers.

    Raises:
        PluginError: No package does, it cannot be loaded, or two packages register different ones.
    """
    noun, points = _KINDS[group].noun, _entry_points(group).get(name, [])
    if not points:
        known = ", ".join(names(group))
        raise PluginError(f"unknown {noun} {name!r}", hint=f"installed are {known}; other packages may provide more")
    point = points[0]
    if different := [other for other in points if other.value != point.value]:
        both = f"{_package(point)} and {_package(different[0])}"
        raise PluginError(f"both {both} register the {noun} {name!r}", hint=f"pip uninstall {_package(point)}")
    if group == "encodings" and _is_reserved(name):
        raise PluginError(
            f"{_package(point)} registers the {noun} {name!r}, a name that packs use for entries without bytes",
            hint=f"pip uninstall {_package(point)}, or rename its {noun}",
        )
    try:
        return cast("object", point.load())
    except ThetaError:
        raise
    except Exception as error:  # another package's code may raise anything
        raise PluginError(f"cannot load {noun} {name!r} of {_package(point)}: {error}") from error


def _is_reserved(name: str) -> bool:
    from git_theta_ext.interfaces.encodings import RESERVED_NAMES  # most plug-ins are not encodings

    return name in RESERVED_NAMES


@cache
def _entry_points(group: Group) -> dict[str, list[EntryPoint]]:
    """Return the entry points of a group, without those whose name is that of a built-in plug-in."""
    from git_theta_ext.util.entry_points import may_have

    points: dict[str, list[EntryPoint]] = {}
    if not may_have(f"git_theta_ext.{group}"):
        return points
    from importlib.metadata import entry_points

    own = built_in(group)
    for point in entry_points(group=f"git_theta_ext.{group}"):
        if point.name not in own:
            points.setdefault(point.name, []).append(point)
    return points


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.module


def _summary(group: Group, name: str, module: str) -> str:
    import ast
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
    except ImportError:  # of the package that the module is in
        spec = None
    if spec is None or spec.origin is None:
        raise PluginError(f"{_KINDS[group].noun} {name!r}: there is no module {module}")
    with open(spec.origin, "rb") as file:  # noqa: PTH123 - pathlib is not needed for anything else here
        lines = (ast.get_docstring(ast.parse(file.read())) or "").splitlines()
    return lines[0] if lines else ""
