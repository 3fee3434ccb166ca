"""The conflicts of the files of a model: put together to be resolved, and divided again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.merge.resolve_layout import resolve_layout
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.store.store import Store


def together(manifests: Sequence[Manifest]) -> Manifest:
    """Return a manifest of the parameters and conflicts of several files, which is not that of any file.

    Raises:
        MergeError: Two files have a conflict of the same name.
    """
    if len(manifests) == 1:
        return manifests[0]
    parameters = {name: value for manifest in manifests for name, value in manifest.parameters.items()}
    conflicts = tuple(conflict for manifest in manifests for conflict in manifest.conflicts)
    if len({conflict.name for conflict in conflicts}) < len(conflicts):
        raise MergeError("two files of the model have conflicts of the same name", hint="git theta resolve PATH")
    layout = next((m.layout_conflict for m in manifests if m.layout_conflict is not None), None)
    return Manifest(manifests[0].format, manifests[0].skeleton, parameters, layout, conflicts)


def with_values(manifest: Manifest, values: Mapping[str, Parameter | None], store: Store, side: str | None) -> Manifest:
    """Return a manifest with the values of its conflicts, and with a layout if no conflict remains.

    Args:
        manifest: A manifest with conflicts.
        values: Values by parameter; None deletes the parameter. Other conflicts remain.
        store: The store with the layouts.
        side: The side whose layout is preferred; None for no preference.

    Raises:
        MergeError: No file of this format can hold these parameters.
    """
    parameters = dict(manifest.parameters)
    remaining = []
    for conflict in manifest.conflicts:
        if conflict.name not in values:
            remaining.append(conflict)
        elif (value := values[conflict.name]) is None:
            parameters.pop(conflict.name, None)
        else:
            parameters[conflict.name] = value
    result = replace(manifest, parameters=parameters, conflicts=tuple(remaining))
    return result if remaining else resolve_layout(result, store, side)
