"""The ``config.json`` of a model, as Transformers writes it: how many layers there are, and what it says of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.json_text import written_like
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONFIG = "config.json"
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_PER_LAYER = frozenset({"layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers", "block_configs"})
"""Keys of lists with a value for each layer."""
_TEXT = "text_config"
"""The key of the part on the language model, in the configuration of a model that also sees or hears."""
_ALIKE = (
    "model_type",
    "hidden_size",
    "d_model",
    "n_embd",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
"""What layers of one model have in common."""


@dataclass(frozen=True)
class LayersConfig:
    """A configuration.

    Attributes:
        text: The file.
        content: What it says.
        nested: Whether the layers are described in a part of it.
        key: The key of the number of layers.
    """

    text: str
    content: Mapping[str, Any]
    nested: bool
    key: str

    @classmethod
    def parse(cls, data: bytes, model: str) -> LayersConfig:
        """Read a file.

        Args:
            data: Its content.
            model: The model, for errors.

        Raises:
            MergeError: It is not JSON, or does not say how many layers there are.
        """
        hint = f"the number of layers is one of {', '.join(_COUNTS)}"
        try:
            text = data.decode()
            content = read_json(text)
        except ValueError as error:
            raise MergeError(f"{model}: {CONFIG} is not JSON: {error}", hint=hint) from error
        for nested in (False, True):
            part = content.get(_TEXT) if nested and isinstance(content, dict) else content
            for key in _COUNTS:
                if isinstance(part, dict) and type(part.get(key)) is int:
                    return cls(text, content, nested, key)
        raise MergeError(f"{model}: {CONFIG} does not say how many layers there are", hint=hint)

    @property
    def part(self) -> Mapping[str, Any]:
        """The part that describes the layers."""
        part: Mapping[str, Any] = self.content[_TEXT] if self.nested else self.content
        return part

    @property
    def count(self) -> int:
        """The number of layers."""
        count: int = self.part[self.key]
        return count

    @property
    def doubtful(self) -> list[str]:
        """The keys of other lists that may name layers by number."""
        lists = [key for key, value in self.part.items() if isinstance(value, list) and value]
        return [key for key in lists if "layer" in key and key not in _PER_LAYER]

    def difference(self, other: LayersConfig) -> str:
        """Return in what layers of two models cannot be alike; empty if they can."""
        for key in _ALIKE:
            if self.part.get(key) != other.part.get(key):
                return f"{key} is {self.part.get(key)!r} and {other.part.get(key)!r}"
        return ""

    def of_layers(self, slices: Sequence[tuple[LayersConfig, range]]) -> bytes:
        """Return the file of a model of other layers.

        Args:
            slices: The configuration of the model that each slice is from, and the numbers of its layers.

        Raises:
            MergeError: Only some of them have a list with a value for each layer.
        """
        part = dict(self.part)
        part[self.key] = sum(len(layers) for _, layers in slices)
        for key in _PER_LAYER.intersection(part):
            values: list[Any] = []
            for config, layers in slices:
                listed = config.part.get(key)
                if not isinstance(listed, list) or len(listed) != config.count:
                    raise MergeError(
                        f"{CONFIG}: {key!r} of some models has no value for each of their layers",
                        hint="git theta stack -h",
                    )
                values += listed[layers.start : layers.stop]
            part[key] = values
        content = {**self.content, _TEXT: part} if self.nested else part
        return written_like(self.text, content).encode()
