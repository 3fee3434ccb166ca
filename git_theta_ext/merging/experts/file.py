"""Read the file that says of which experts a mixture consists, in the words of mergekit's configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.rules.yaml_file import YamlFile
from git_theta_ext.merging.stacking.file import read_choice, read_dtype, read_text
from git_theta_ext.records import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import yaml

    from git_theta_ext.merging.rules.rules import Choice

COMMAND = "moe"
GateMode = Literal["random", "uniform_random", "zeros", "cheap_embed"]
_MODES: tuple[GateMode, ...] = get_args(GateMode)
_HIDDEN = ("hidden", "hidden_avg", "hidden_last")
_TOP = (
    "base_model",
    "experts",
    "gate_mode",
    "seed",
    "experts_per_token",
    "merge_method",
    "parameters",
    "weights",
    "dtype",
)
_EXPERT = ("source_model", "positive_prompts", "negative_prompts")
_PROMPTS = _EXPERT[1:]
_MOST_EXPERTS = 1024
MOST_TOKENS = 10_000
"""The most tokens of all prompts: the record has each as an element of a list."""
_MOST_SEED = 2**53

Prompt = str | tuple[int, ...]
"""Text, or the numbers of its tokens."""


@dataclass(frozen=True)
class Expert:
    """An expert.

    Attributes:
        model: ``REV:PATH`` of the model.
        prompts: What the router sends to it, and what it does not.
    """

    model: str
    prompts: tuple[tuple[Prompt, ...], tuple[Prompt, ...]] = ((), ())


@dataclass(frozen=True)
class Mixture:
    """Of which experts a mixture consists.

    Attributes:
        base_model: ``REV:PATH`` of the model whose configuration and parameters outside of experts it has.
        experts: The experts.
        gate_mode: What routers begin with.
        seed: The seed of random routers.
        each: The number of experts that a token takes.
        choice: How what the models have besides experts is merged; None for that of ``base_model``.
        dtype: The element type that all floats must have; None for any.
        written: What the file has besides the models, by key.
    """

    base_model: str
    experts: tuple[Expert, ...]
    gate_mode: GateMode
    seed: int = 0
    each: int = 2
    choice: Choice | None = None
    dtype: str | None = None
    written: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command of git theta that makes the model."""
        return COMMAND

    @property
    def models(self) -> tuple[str, ...]:
        """Every model once, ``base_model`` first."""
        return tuple(dict.fromkeys([self.base_model, *(expert.model for expert in self.experts)]))

    def with_models(self, names: Mapping[str, str]) -> Mixture:
        """Return the mixture with other names of the models."""
        experts = tuple(replace(expert, model=names[expert.model]) for expert in self.experts)
        return replace(self, base_model=names[self.base_model], experts=experts)

    def to_bytes(self) -> bytes:
        """Return a file that says the same."""
        import yaml

        experts = [
            {"source_model": expert.model}
            | {
                key: [_plain(p) for p in prompts]
                for key, prompts in zip(_PROMPTS, expert.prompts, strict=True)
                if prompts
            }
            for expert in self.experts
        ]
        content = {"base_model": self.base_model, "experts": experts, **self.written}
        text: str = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=1000)
        return text.encode()


def _plain(prompt: Prompt) -> str | list[int]:
    return prompt if isinstance(prompt, str) else list(prompt)


def read_mixture(text: bytes, name: str) -> Mixture:
    """Read a file.

    Args:
        text: Its content.
        name: Its name, for errors.

    Raises:
        MergeError: The file is not valid.
        PluginError: A method is not installed.
    """
    file = YamlFile(name, f"edit {name}; git theta {COMMAND} -h has an example")
    node = file.parse(text)
    if node is None:
        raise MergeError(f"{name} is empty", hint=file.hint)
    top = file.mapping(node, _TOP)
    base_model = read_text(file, top, "base_model")
    if base_model is None:
        raise file.error(node, "the key 'base_model' is missing")
    entries = file.sequence(top["experts"], "experts") if "experts" in top else []
    if not 2 <= len(entries) <= _MOST_EXPERTS:  # noqa: PLR2004 - one expert is the dense model
        raise file.error(top.get("experts", node), f"'experts' must list from 2 to {_MOST_EXPERTS} models")
    experts = tuple(_expert(file, entry) for entry in entries)
    mode = _gate_mode(file, top, experts)
    each = _whole(file, top, "experts_per_token", 2, range(1, len(experts) + 1))
    seed = _whole(file, top, "seed", 0, range(_MOST_SEED + 1))
    method = read_text(file, top, "merge_method")
    if method is None and (stray := [key for key in ("parameters", "weights") if key in top]):
        raise file.error(top[stray[0]], f"{stray[0]!r} is for a merge_method")
    chosen = None if method is None else read_choice(file, top, method, "merge what the models share")
    written = {key: file.value(value) for key, value in top.items() if key not in {"base_model", "experts"}}
    return Mixture(base_model, experts, mode, seed, each, chosen, read_dtype(file, top), written)


def _expert(file: YamlFile, node: yaml.Node) -> Expert:
    keys = file.mapping(node, _EXPERT)
    model = read_text(file, keys, "source_model")
    if model is None:
        raise file.error(node, "the expert has no key 'source_model'")
    positive, negative = (_prompts(file, keys[key], key) if key in keys else () for key in _PROMPTS)
    return Expert(model, (positive, negative))


def _prompts(file: YamlFile, node: yaml.Node, key: str) -> tuple[Prompt, ...]:
    prompts: list[Prompt] = []
    for entry in file.sequence(node, key):
        value = file.value(entry)
        if isinstance(value, list) and value and all(type(token) is int and token >= 0 for token in value):
            prompts.append(tuple(value))
        elif isinstance(value, str) and value:
            prompts.append(value)
        else:
            raise file.error(entry, f"{key!r} must list texts, or lists of token ids")
    return tuple(prompts)


def _gate_mode(file: YamlFile, top: Mapping[str, yaml.Node], experts: tuple[Expert, ...]) -> GateMode:
    """Return what routers begin with; experts need prompts that tell them apart if it depends on prompts."""
    place = top.get("gate_mode", top["experts"])
    mode = read_text(file, top, "gate_mode")
    if mode in _HIDDEN:
        raise file.error(place, f"gate_mode {mode!r} runs the model, which git theta does not: use 'cheap_embed'")
    if mode not in _MODES:
        raise file.error(place, f"'gate_mode' must be one of {', '.join(_MODES)}")
    if "seed" in top and "random" not in mode:
        raise file.error(top["seed"], f"gate_mode {mode!r} takes no seed")
    prompted = [number for number, expert in enumerate(experts) if expert.prompts[0]]
    if mode != "cheap_embed" and prompted:
        raise file.error(place, f"gate_mode {mode!r} takes no prompts")
    if mode == "cheap_embed" and len(prompted) < len(experts):
        lacking = next(number for number in range(len(experts)) if number not in prompted)
        raise file.error(place, f"expert {lacking + 1} has no positive_prompts, which gate_mode 'cheap_embed' needs")
    if mode == "cheap_embed" and len({expert.prompts for expert in experts}) == 1:
        raise file.error(place, "all experts have the same prompts, so that the router cannot tell them apart")
    return mode


def _whole(file: YamlFile, top: Mapping[str, yaml.Node], key: str, default: int, allowed: range) -> int:
    value = file.value(top[key]) if key in top else default
    if type(value) is not int or value not in allowed:
        raise file.error(top[key], f"{key!r} must be a number from {allowed.start} to {allowed.stop - 1}")
    return value
