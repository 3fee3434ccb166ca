"""The format of a new model, and the layout of its files: the first model's format, or safetensors if that is fixed.

Values are never read: a tensor has the same bytes in every format whose parameters are whole tensors in row-major
order.
"""

from __future__ import annotations

import posixpath
import struct
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, MergeError
from git_theta_ext.merging.apply import compose_from
from git_theta_ext.merging.rules.layers import layer_of
from git_theta_ext.model.layout import Layout, Literal
from git_theta_ext.model.shards import model_name
from git_theta_ext.operations.conversion.safetensors_file import header
from git_theta_ext.operations.conversion.sources import refuse_format, refuse_parts
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.registry import find_format
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.model.manifest import Skeleton
    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.stacking.source import SourceModel
    from git_theta_ext.operations.workspace import Workspace

SAFETENSORS = "safetensors"
GGUF = "gguf"
_TORCH_STEM, _STEM = "pytorch_model", "model"
"""The names that Transformers gives to the files of models, by torch and by safetensors."""

_U32 = 4
_ARRAY = 9
_COUNT = ".block_count"


def format_of(version: ModelVersion) -> str:
    """Return the format that a model of parts of another one has."""
    return version.format if version.format in {SAFETENSORS, GGUF} else SAFETENSORS


def file_name(version: ModelVersion, path: str) -> str:
    """Return the name that a file has in a new model: that of the first model, in the format of the new one."""
    name = posixpath.basename(path)
    if format_of(version) == version.format:
        return name
    stem = posixpath.basename(model_name(path)).split(".", maxsplit=1)[0]
    renamed = name.replace(stem, _STEM, 1) if stem == _TORCH_STEM else name
    if renamed.endswith(".index.json"):
        parts = renamed.removesuffix(".index.json")
        return f"{posixpath.splitext(parts)[0]}.{SAFETENSORS}.index.json"
    return f"{posixpath.splitext(renamed)[0]}.{SAFETENSORS}"


def check_sources(workspace: Workspace, models: Iterable[SourceModel]) -> None:
    """Check whether the parameters of models are whole tensors, which another file can have.

    Raises:
        FormatError: They are parts of objects or arrays.
        MergeError: A model of GGUF is in several files, whose headers count each other.
        MissingError: A layout is neither here nor on a remote.
    """
    for model in models:
        version, label = model.version, model.name
        if version.format == SAFETENSORS:
            continue
        if version.format == GGUF and len(version.shards) > 1:
            raise MergeError(
                f"{label} is a GGUF model in {len(version.shards)} files, whose headers depend on each other",
                hint="merge the files with llama-gguf-split --merge",
            )
        refuse_format(version, label)
        ensure_digests(workspace, {shard.skeleton.digest for shard in version.shards.values()})
        refuse_parts(workspace.store, version, version.parameters.keys(), label)


def layout_of(workspace: Workspace, model: SourceModel, specs: Mapping[str, TensorSpec]) -> Skeleton | None:
    """Store a layout for some parameters in a file like those of a model.

    Args:
        workspace: The repository and its store.
        model: The model.
        specs: Name and spec of each parameter.

    Returns:
        Its skeleton; None if the format cannot hold these parameters.

    Raises:
        MergeError: The file has values for each layer.
        MissingError: A layout is neither here nor on a remote.
    """
    store, version = workspace.store, model.version
    if format_of(version) != version.format:
        return compose_from(SAFETENSORS, Layout((Literal(header({}, {"format": "pt"})),)), specs, store)
    before = next(iter(version.shards.values()))
    ensure_digests(workspace, {before.skeleton.digest})
    layout = read_skeleton(store, before.skeleton)
    facts = _with_layers(layout, model, specs) if version.format == GGUF else None
    return compose_from(version.format, layout, specs, store, facts)


def _with_layers(layout: Layout, model: SourceModel, names: Iterable[str]) -> dict[str, bytes]:
    """Return the key-value pairs of a GGUF file with another number of layers."""
    numbers = [layer.number for layer in filter(None, map(layer_of, names)) if layer.stack == model.stack]
    facts = dict(find_format(GGUF).facts(layout))
    counts = [key for key in facts if key.endswith(_COUNT)]
    if len(counts) != 1:
        raise FormatError(f"{model.name} has no one key *{_COUNT} with the number of layers", hint="git theta stack -h")
    for key, value in facts.items():
        is_array = int.from_bytes(value[:4], "little") == _ARRAY
        if is_array and not key.startswith("tokenizer.") and int.from_bytes(value[8:16], "little") == model.count:
            raise MergeError(
                f"{model.name}: {key} has a value for each layer, which is not renumbered",
                hint="stack the model of safetensors from which it was made",
            )
    return {**facts, counts[0]: struct.pack("<II", _U32, max(numbers) + 1)}
