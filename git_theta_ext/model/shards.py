"""Find the files that hold one model: the shards of a checkpoint and the index that lists them.

``save_pretrained`` of transformers and diffusers writes ``model.safetensors``, or ``model-00001-of-00004.safetensors``
and so on with ``model.safetensors.index.json``. All of these are files of the model ``model.safetensors``. Which files
an index lists, or which name the attribute ``theta-model`` gives to files, counts more than their names. PEFT writes
``adapter_model.safetensors`` and ``adapter_config.json``, without which the tensors mean nothing.

The files ``__0_0.distcp`` and so on of torch.distributed.checkpoint, whose index is ``.metadata``, are the model
``model.distcp``.
"""

from __future__ import annotations

import posixpath
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.model.model_index import ModelIndex

_SHARD = re.compile(r"(?P<stem>.+?)[-_.]?(?P<number>[0-9]{2,8})-of-(?P<count>[0-9]{2,8})(?P<suffix>(?:\.[^.]+)+)")
_INDEX = re.compile(r"(?P<stem>.+)(?P<suffix>\.(?:safetensors|bin|pt|pth))\.index(?P<variant>\.[^.]+)?\.json")
_ADAPTER = re.compile(r"adapter_model(?:\*?\.|\*).*")
CONFIG = "adapter_config.json"
"""The name of the file in which PEFT writes the configuration of the adapter beside it."""
MOST_CONFIG_BYTES = 1 << 20
_DISTRIBUTED = re.compile(r"__[0-9]{1,8}_[0-9]{1,8}\.distcp")
INDEX_FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType({".metadata": ("torch_dcp", "torch_zip")})
"""The name of the index of files that do not have the names of their tensors, and the formats of these files.

The first one reads the index. A file with one tensor is an ordinary one of torch.
"""
_NO_INDEXES: Mapping[str, ModelIndex] = MappingProxyType({})
_NO_NAMES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model; all are in the same directory.

    Attributes:
        name: The path that the model has, or would have, as one file.
        shards: Paths of the checkpoints, sorted.
        index: Path of the index; None if there is none.
        config: Path of the configuration of an adapter; None if there is none.
    """

    name: str
    shards: tuple[str, ...]
    index: str | None = None
    config: str | None = None

    @property
    def sharded(self) -> bool:
        """Whether it is more than one file."""
        return len(self.shards) > 1 or self.index is not None or self.config is not None

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all its files."""
        return (*self.shards, *(path for path in (self.index, self.config) if path is not None))


def model_name(path: str) -> str:
    """Return the name of the model that a checkpoint or an index belongs to, according to the name of the file.

    A file that is not a shard is a model by itself.
    """
    folder, name = posixpath.split(path)
    if match := _SHARD.fullmatch(name):
        # Only the last suffix is the format; diffusers puts the variant (".fp16") on either side of the number.
        return posixpath.join(folder, match["stem"] + match["suffix"])
    if match := _INDEX.fullmatch(name):
        return posixpath.join(folder, match["stem"] + (match["variant"] or "") + match["suffix"])
    if name in INDEX_FORMATS or _DISTRIBUTED.fullmatch(name):
        return posixpath.join(folder, "model.distcp")
    return path


def is_index(path: str) -> bool:
    """Return whether a file is the index of a sharded checkpoint, according to its name."""
    name = posixpath.basename(path)
    return name in INDEX_FORMATS or _INDEX.fullmatch(name) is not None


def is_config(path: str) -> bool:
    """Return whether a file is the configuration of an adapter, according to its name."""
    return posixpath.basename(path) == CONFIG


def is_adapter(path: str) -> bool:
    """Return whether a path, or a pattern of paths, is that of an adapter, according to the name of the file."""
    return _ADAPTER.fullmatch(posixpath.basename(path)) is not None


def is_text(path: str) -> bool:
    """Return whether a file belongs to a model and is not a checkpoint: it is an index or a configuration."""
    return is_index(path) or is_config(path)


def models_of(
    checkpoints: Iterable[str],
    indexes: Mapping[str, ModelIndex] = _NO_INDEXES,
    names: Mapping[str, str] = _NO_NAMES,
    configs: Iterable[str] = (),
) -> list[ModelFiles]:
    """Return the models that some files of a tree make up, sorted by name.

    A shard that two indexes list belongs to the model that its own name says.

    Args:
        checkpoints: Paths of all checkpoints.
        indexes: Path of each index to its content.
        names: Path to the name that the attribute ``theta-model`` gives to the checkpoint's model.
        configs: Paths of the configurations of adapters.
    """
    listed: dict[str, set[str]] = {}
    for path, index in indexes.items():
        for file in set(index.weight_map.values()):
            listed.setdefault(posixpath.join(posixpath.dirname(path), file), set()).add(model_name(path))
    shards: dict[str, list[str]] = {}
    for path in sorted(set(checkpoints)):
        models = listed.get(path, set())
        named = names.get(path)
        if named is not None:
            name = posixpath.join(posixpath.dirname(path), posixpath.basename(named))
        else:
            alone = posixpath.basename(path) in INDEX_FORMATS  # it cannot be read as an index
            name = next(iter(models)) if len(models) == 1 else path if alone else model_name(path)
        shards.setdefault(name, []).append(path)
    index_of = {model_name(path): path for path in sorted(indexes, reverse=True)}
    config_in = {posixpath.dirname(path): path for path in configs}
    return [
        ModelFiles(name, tuple(paths), index_of.get(name), _config_of(name, config_in))
        for name, paths in sorted(shards.items())
    ]


def _config_of(name: str, config_in: Mapping[str, str]) -> str | None:
    return config_in.get(posixpath.dirname(name)) if is_adapter(name) else None
