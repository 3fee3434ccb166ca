"""Refuse to convert parameters that are not the tensors which the library of their format reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import PartialFormat
from git_theta_ext.model.tensor_pieces import tensor_of
from git_theta_ext.registry import find_format
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Collection

    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.store.store import Store

_OTHERS = {
    "opaque": "is in the format opaque, which has no parameters",
    "pickle": "is a pickle, whose arrays are parts of objects",
    "tar": "is an archive, whose files are to be converted one by one",
    "zip": "is an archive, whose files are to be converted one by one",
}
_IN_PIECES = frozenset({"hdf5", "keras", "torch_dcp"})


def refuse_format(version: ModelVersion, label: str) -> None:
    """Refuse formats whose parameters are not those of one model.

    Raises:
        FormatError: The format is one of them.
    """
    if version.format in _OTHERS:
        raise FormatError(f"{label} {_OTHERS[version.format]}", hint=f"git theta export {shell_word(label)} FILE")


def refuse_parts(store: Store, version: ModelVersion, names: Collection[str], label: str) -> None:
    """Refuse parameters that are not one tensor each in row-major order, given that the skeletons are in the store.

    Raises:
        FormatError: A parameter is one of them; the message has the reason.
    """
    for path, manifest in version.shards.items():
        reasons: dict[str, str] = {}
        in_file = version.in_files(path)
        found = find_format(in_file.format)
        if isinstance(found, PartialFormat):
            layout = read_skeleton(store, in_file.skeleton, parameters=len(in_file.parameters), path=path)
            in_model = {old: new for new, old in version.names_in_file(path).items()}
            reasons.update({in_model.get(name, name): reason for name, reason in found.partial(layout).items()})
        if manifest.format in _IN_PIECES:
            reasons |= {name: "is a piece of an array" for name in manifest.parameters if tensor_of(name) != name}
        for name, reason in reasons.items():
            if name in names:
                raise FormatError(
                    f"parameter {name!r} {reason}, so it is not converted",
                    hint=f"git theta export {shell_word(label)} FILE",
                )
