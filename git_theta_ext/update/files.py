"""Read what an update consists of: tensors in the safetensors format, and a JSON configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import UpdateFile, UpdateTensor
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.fields import Extent
from git_theta_ext.registry import find_format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.model.content import Content

MAX_CONFIG = 1 << 20
"""The most bytes that a configuration may have."""

_LENGTH = 8
_METADATA = "__metadata__"


def read_update(data: Content, label: str, config: bytes | None = None) -> UpdateFile:
    """Read the tensors of a safetensors file.

    Args:
        data: The whole file.
        label: Its name in messages.
        config: The content of the configuration in the same directory; None if there is none.

    Raises:
        FormatError: The file breaks the format, or the configuration is not a JSON object.
    """
    settings = None if config is None else read_config(config, label)
    try:
        fields = find_format("safetensors").parse(data)
    except FormatError as error:
        raise FormatError(
            f"{label}: {error.message}",
            hint="safetensors.torch.save_file(tensors, FILE) writes a file that it can read",
        ) from error
    tensors = {
        field.name: UpdateTensor(field.spec, data[field.offset : field.end])
        for field in fields
        if isinstance(field, Extent)
    }
    # The format has read the header, so it is there and it is JSON.
    length = int.from_bytes(data[:_LENGTH], "little")
    metadata = read_json(str(data[_LENGTH : _LENGTH + length], "utf-8")).get(_METADATA, {})
    texts = {name: text for name, text in metadata.items() if isinstance(text, str)}
    return UpdateFile(label, tensors, texts, settings)


def read_config(data: bytes, label: str) -> Mapping[str, Any]:
    """Read a configuration.

    Raises:
        FormatError: It is too long, or not a JSON object.
    """
    if len(data) > MAX_CONFIG:
        raise FormatError(f"{label}: a configuration of {len(data)} bytes exceeds the limit of {MAX_CONFIG}")
    try:
        config = read_json(data.decode("utf-8-sig"))
    except ValueError as error:
        raise FormatError(f"{label}: its configuration is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise FormatError(f"{label}: its configuration is not a JSON object")
    return config
