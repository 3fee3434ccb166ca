"""Read the file that says of which layers a model consists, in the words of mergekit's configurations."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.rules.rules import APPLY, GROW, choice, is_fixed
from git_theta_ext.merging.rules.yaml_file import YamlFile
from git_theta_ext.records import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import yaml

    from git_theta_ext.merging.rules.rules import Choice

COMMAND = "stack"
PASSTHROUGH = "passthrough"
DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_TOP = ("slices", "merge_method", "base_model", "parameters", "weights", "dtype")
_SLICE = ("sources",)
_SOURCE = ("model", "layer_range")
_MOST_LAYERS = 100_000


@dataclass(frozen=True)
class Source:
    """Layers of a model.

    Attributes:
        model: ``REV:PATH`` of the model.
        layers: Their numbers.
    """

    model: str
    layers: range


@dataclass(frozen=True)
class Slices:
    """Of which layers a model consists.

    Attributes:
        slices: The sources of each slice, from the first layer to the last one; all slices have the same number.
        choice: How the sources of a slice are merged; None if each slice has one source.
        base_model: ``REV:PATH`` of the model whose configuration is used, and that methods take as common ancestor;
            None for the first source.
        dtype: The element type that all floats must have; None for any.
        written: What the file has besides the slices and models, by key.
    """

    slices: tuple[tuple[Source, ...], ...]
    choice: Choice | None = None
    base_model: str | None = None
    dtype: str | None = None
    written: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command of git theta that makes the model."""
        return COMMAND

    @property
    def models(self) -> tuple[str, ...]:
        """Every model once, the one whose configuration is used first."""
        sources = [source.model for sources in self.slices for source in sources]
        return tuple(dict.fromkeys([*([] if self.base_model is None else [self.base_model]), *sources]))

    @property
    def depth(self) -> int:
        """The number of layers."""
        return sum(len(sources[0].layers) for sources in self.slices)

    def with_models(self, names: Mapping[str, str]) -> Slices:
        """Return the slices with other names of the models."""
        slices = tuple(tuple(replace(s, model=names[s.model]) for s in sources) for sources in self.slices)
        base = None if self.base_model is None else names[self.base_model]
        return replace(self, slices=slices, base_model=base)

    def to_bytes(self) -> bytes:
        """Return a file that says the same."""
        import yaml

        slices = [
            {"sources": [{"model": s.model, "layer_range": [s.layers.start, s.layers.stop]} for s in sources]}
            for sources in self.slices
        ]
        base = {} if self.base_model is None else {"base_model": self.base_model}
        content = {"slices": slices, **base, **self.written}
        text: str = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=1000)
        return text.encode()


def read_slices(text: bytes, name: str) -> Slices:
    """Read a file.

    Args:
        text: Its content.
        name: Its name, for errors.

    Raises:
        MergeError: The file is not valid.
        PluginError: A method is not installed.
    """
    return _Reader(YamlFile(name, f"edit {name}; git theta {COMMAND} -h has an example")).slices(text)


class _Reader:
    """Reads the nodes of one file."""

    def __init__(self, file: YamlFile) -> None:
        self._file = file

    def slices(self, text: bytes) -> Slices:
        file, node = self._file, self._file.parse(text)
        if node is None:
            raise MergeError(f"{file.name} is empty", hint=file.hint)
        top = file.mapping(node, _TOP)
        if "slices" not in top or not (entries := file.sequence(top["slices"], "slices")):
            raise file.error(top.get("slices", node), "'slices' must list at least one slice")
        slices = tuple(self._slice(entry) for entry in entries)
        for entry, sources in zip(entries, slices, strict=True):
            if len(sources) != len(slices[0]):
                raise file.error(entry, f"the slice has {len(sources)} sources, and the first one {len(slices[0])}")
        if sum(len(sources[0].layers) for sources in slices) > _MOST_LAYERS:
            raise file.error(top["slices"], f"the slices have more than {_MOST_LAYERS} layers")
        method = read_text(file, top, "merge_method") or PASSTHROUGH
        written = {key: file.value(value) for key, value in top.items() if key not in {"slices", "base_model"}}
        chosen = self._choice(top, method, len(slices[0]))
        base_model = read_text(file, top, "base_model")
        return Slices(slices, chosen, base_model, read_dtype(file, top), written)

    def _slice(self, node: yaml.Node) -> tuple[Source, ...]:
        file, keys = self._file, self._file.mapping(node, _SLICE)
        if "sources" not in keys or not (entries := file.sequence(keys["sources"], "sources")):
            raise file.error(keys.get("sources", node), "'sources' must list at least one model")
        sources = tuple(self._source(entry) for entry in entries)
        for entry, source in zip(entries, sources, strict=True):
            if len(source.layers) != len(sources[0].layers):
                raise file.error(entry, "the sources of a slice must have the same number of layers")
        return sources

    def _source(self, node: yaml.Node) -> Source:
        file, keys = self._file, self._file.mapping(node, _SOURCE)
        model = read_text(file, keys, "model")
        if model is None:
            raise file.error(node, "the source has no key 'model'")
        place = keys.get("layer_range", node)
        ends = file.value(place) if "layer_range" in keys else None
        if not isinstance(ends, list) or len(ends) != 2 or not all(type(end) is int for end in ends):  # noqa: PLR2004
            raise file.error(place, "'layer_range' must be the first layer and the one after the last, as [0, 16]")
        if not 0 <= ends[0] < ends[1] <= _MOST_LAYERS:
            raise file.error(place, f"'layer_range' has no layers: {ends}")
        return Source(model, range(*ends))

    def _choice(self, top: Mapping[str, yaml.Node], method: str, sources: int) -> Choice | None:
        file, place = self._file, top.get("merge_method", top["slices"])
        if method == PASSTHROUGH:
            if stray := [key for key in ("parameters", "weights") if key in top and file.value(top[key])]:
                raise file.error(top[stray[0]], f"{PASSTHROUGH} takes no options")
            if sources > 1:
                what = f"the slices have {sources} sources, and {PASSTHROUGH} takes one"
                raise file.error(place, f"{what}: name another merge_method, such as slerp")
            return None
        chosen = read_choice(file, top, method, "merge the sources of a slice")
        if sources == 1:
            raise file.error(place, f"{method!r} needs at least two sources in each slice")
        return chosen


def read_choice(file: YamlFile, top: Mapping[str, yaml.Node], method: str, work: str) -> Choice:
    """Return how values are merged: all of them, also those that only one side changed.

    Args:
        file: The file.
        top: Its nodes by key: ``merge_method``, ``parameters`` and ``weights``.
        method: The method.
        work: What the method must be able to do, for errors.

    Raises:
        MergeError: The method does not merge values, or takes no such options.
        PluginError: The method is not installed.
    """
    options = file.value(top["parameters"]) if "parameters" in top else {}
    weights = file.value(top["weights"]) if "weights" in top else []
    if not isinstance(options, AbstractMapping):
        raise file.error(top["parameters"], "'parameters' must be a mapping of the method's options")
    if not isinstance(weights, list):
        raise file.error(top["weights"], "'weights' must be a list of numbers")
    if is_fixed(method) or method in {APPLY, GROW}:
        raise file.error(top["merge_method"], f"{method!r} does not {work}")
    return replace(choice(method, options, weights, origin=file.place(top["merge_method"])), every_side=True)


def read_dtype(file: YamlFile, top: Mapping[str, yaml.Node]) -> str | None:
    """Return the element type under ``dtype``, as a manifest names it.

    Raises:
        MergeError: It is not one of DTYPES.
    """
    dtype = read_text(file, top, "dtype")
    if dtype is not None and dtype not in DTYPES:
        raise file.error(top["dtype"], f"unknown type {dtype!r}; the types are {', '.join(DTYPES)}")
    return None if dtype is None else DTYPES[dtype]


def read_text(file: YamlFile, keys: Mapping[str, yaml.Node], key: str) -> str | None:
    """Return the text under a key; None if the key is absent.

    Raises:
        MergeError: It is not text.
    """
    value = file.value(keys[key]) if key in keys else None
    if value is not None and not isinstance(value, str):
        raise file.error(keys[key], f"{key!r} must be text")
    return value
