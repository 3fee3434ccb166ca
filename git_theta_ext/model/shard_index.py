"""The index of a sharded checkpoint, ``*.index.json``: which shard holds each parameter.

The file comes from anywhere, and its names become paths: each must be the name of a file beside it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.json_text import written_like
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.model.tensor_pieces import PiecedTensor

MAX_INDEX = 1 << 27
"""The limit of an index in bytes, enough for a million parameters."""

_LONGEST_NAME = 255
_TOTALS = ("total_size", "total_parameters")


@dataclass(frozen=True)
class ShardIndex:
    """The content of an index.

    Attributes:
        text: The whole file.
        weight_map: Parameter to the name of the file that holds it.
        metadata: The other facts, such as ``total_size``.
    """

    text: str
    weight_map: Mapping[str, str]
    metadata: Mapping[str, Any]

    @classmethod
    def parse(cls, data: bytes) -> ShardIndex:
        """Read an index.

        Raises:
            FormatError: It is not an index, too large, has a key twice, or names a file outside its directory.
        """
        if len(data) > MAX_INDEX:
            raise FormatError(f"the index of {len(data)} bytes exceeds the limit of {MAX_INDEX}")
        try:
            text = data.decode()
            content = read_json(text, _without_duplicates)
        except ValueError as error:
            raise FormatError(f"not an index of shards: {error}") from error
        weight_map = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(weight_map, dict):
            raise FormatError("not an index of shards: it has no weight_map")
        for name, file in weight_map.items():
            if not isinstance(file, str) or not _is_file_name(file):
                raise FormatError(
                    f"the index puts {name[:80]!r} into {str(file)[:80]!r}, which is not the name of a file"
                )
        metadata = content.get("metadata", {})
        metadata = metadata if isinstance(metadata, dict) else {}
        return cls(text, MappingProxyType(weight_map), MappingProxyType(metadata))

    def moved(self, weight_map: Mapping[str, str], added: Mapping[str, int]) -> ShardIndex:
        """Return the index of other parameters, or of parameters in other shards; the same one if nothing differs.

        The order of the parameters stays, and new ones follow. Other keys and the indentation are kept.

        Args:
            weight_map: Parameter to the name of the file that holds it.
            added: What is added to ``total_size`` and ``total_parameters``, as far as the index has them.
        """
        totals = {key: self.metadata[key] + added[key] for key in _TOTALS if added.get(key) and self._counts(key)}
        if dict(self.weight_map) == dict(weight_map) and not totals:
            return self
        content = read_json(self.text)
        order = [name for name in self.weight_map if name in weight_map]
        new = sorted(name for name in weight_map if name not in self.weight_map)
        order = sorted([*order, *new]) if list(self.weight_map) == sorted(self.weight_map) else [*order, *new]
        content["weight_map"] = {name: weight_map[name] for name in order}
        if totals:
            content["metadata"].update(totals)
        text = written_like(self.text, content)
        return ShardIndex(text, MappingProxyType(content["weight_map"]), MappingProxyType(content.get("metadata", {})))

    @property
    def fixed(self) -> None:
        """None: parameters may move between files."""
        return

    @property
    def tensors(self) -> Mapping[str, PiecedTensor]:
        """None: each parameter is a whole tensor."""
        return {}

    @property
    def objects(self) -> Mapping[str, tuple[str, int, int]]:
        """None: the shards have only tensors."""
        return {}

    def name_in_model(self, file: str, name: str) -> str:  # noqa: ARG002 - see ModelIndex
        """Return the same name: the files have those of the model."""
        return name

    def to_bytes(self) -> bytes:
        """Return the file."""
        return self.text.encode()

    def _counts(self, key: str) -> bool:
        value = self.metadata.get(key)
        return isinstance(value, int) and not isinstance(value, bool)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("it has a key twice")
    return content


def _is_file_name(name: str) -> bool:
    if name in {"", ".", ".."} or not name.isprintable() or name.lower() == ".git":
        return False
    return "/" not in name and "\\" not in name and len(name.encode()) <= _LONGEST_NAME
