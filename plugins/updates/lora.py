"""Low-rank factors, as PEFT saves them: LoRA (Hu et al., 2021, https://arxiv.org/abs/2106.09685).

A directory has ``adapter_config.json`` and ``adapter_model.safetensors``. The latter has ``lora_A`` [r, in] and
``lora_B`` [out, r] for each changed module, whose weight becomes W + scaling * B A. Whole tensors, such as a new head
or biases, replace the parameters of the same names. Tensors of a ``base_layer``, which PEFT saves for embeddings and
heads, replace them before factors are applied.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.interfaces import (
    ParameterNames,
    ParameterUpdate,
    TensorSpec,
    UpdateFile,
    UpdateKind,
    UpdateTensor,
    check_factor,
    check_float_parameter,
    predicted_update,
    replacing_update,
)

from ._peft import PREFIX, flag, from_starts, is_start, once, unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_FACTOR = re.compile(r"(?P<module>.+)\.(?P<kind>lora_(?:embedding_)?)(?P<side>[AB])(?:\.default)?(?:\.weight)?")
_PLAIN = re.compile(r"\^?(?P<name>(?:[\w-]|\\?\.)+)\$?")
_MATRIX = 2
_MOST = 1e30
# Variants with another result than W + scaling * B A, or with another initial W than the checkpoint's.
_REFUSED = {
    "use_dora": "DoRA also scales the columns",
    "use_qalora": "QA-LoRA pools the input",
    "lora_bias": "the adapter has a bias",
    "alora_invocation_tokens": "an activated LoRA depends on the input",
    "arrow_config": "a router depends on the input",
    "target_parameters": "it adapts parameters that are not weights of modules",
    "trainable_token_indices": "it replaces single rows of an embedding",
    "layer_replication": "its layers are not those of the checkpoint",
    "kasa_config": "KaSA changes the base model",
    "use_bdlora": "its factors are block-diagonal",
    "monteclora_config": "its factors are random",
}
_OTHER_START = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class _Settings:
    rank: int
    alpha: float
    patterns: Mapping[str, float]
    ranks_vary: bool
    root: bool
    transposed: bool

    def scaling(self, module: str, rank: int) -> float:
        alphas = (alpha for name, alpha in self.patterns.items() if module == name or module.endswith(f".{name}"))
        alpha = next(alphas, self.alpha)
        return alpha / math.sqrt(rank) if self.root else alpha / rank


@dataclass(frozen=True)
class _Pair:
    name: str
    module: str
    key: str
    left: UpdateTensor
    right: UpdateTensor
    embedding: bool

    @property
    def rank(self) -> int:
        return self.right.spec.shape[0] if self.right.spec.shape else 0

    def ways(self, spec: TensorSpec) -> Sequence[bool]:
        """Return the ways in which the factors fit a parameter: False for their product, True for its transpose."""
        rows = spec.shape[0] if spec.shape else 0
        rest = spec.elements // rows if rows else 0
        sizes = self.left.spec.shape, self.right.spec.shape
        # The weight of an embedding is transposed relative to the factors, and so are the weights of GPT-2.
        ways = {True: (rest, rows)} if self.embedding else {False: (rows, rest), True: (rest, rows)}
        fitting = [way for way, (out, into) in ways.items() if sizes == ((out, self.rank), (self.rank, into))]
        return fitting if self.rank else []


def read_lora(file: UpdateFile, parameters: Mapping[str, TensorSpec]) -> dict[str, ParameterUpdate]:
    """Return the changes of a checkpoint's parameters by a PEFT adapter.

    Args:
        file: The adapter's tensors, with its configuration.
        parameters: The parameters of the checkpoint.

    Returns:
        The change of each parameter, by its name in the checkpoint.

    Raises:
        FormatError: The adapter contradicts itself, or does not fit a parameter. The message names the parameter.
        UsageError: The adapter is of a kind that cannot be applied, or names a parameter that the checkpoint does not
            have.
    """
    settings = _settings(file)
    names = ParameterNames(parameters)
    pairs: dict[tuple[str, bool], dict[str, str]] = {}
    changes: dict[str, ParameterUpdate] = {}
    starts: dict[str, ParameterUpdate] = {}
    for key in file.tensors:
        match = _FACTOR.fullmatch(key.removeprefix(PREFIX))
        if match is not None:
            slot = (match["module"], match["kind"] != "lora_")
            once(pairs.setdefault(slot, {}), match["side"], key)
        elif "lora_" in key:
            raise UsageError(f"{key!r} belongs to an unknown kind of LoRA")
        else:
            name = names.get(unwrapped(key))
            once(
                starts if is_start(key) else changes, name, replacing_update(file.tensors[key], parameters[name], name)
            )
    complete = [_pair(file, names, module, sides, embedding=embedding) for (module, embedding), sides in pairs.items()]
    ways = [(pair, pair.ways(parameters[pair.name])) for pair in complete]
    # PEFT saves the value for its last layer, which is wrong for the others if only some are transposed as in GPT-2.
    wrong = any(
        len(options) == 1 and settings.transposed not in options for pair, options in ways if not pair.embedding
    )
    for pair, fitting in ways:
        once(changes, pair.name, _change(settings, pair, parameters[pair.name], fitting, wrong=wrong))
    return from_starts(changes, starts)


KIND = UpdateKind(read_lora)


def _pair(file: UpdateFile, names: ParameterNames, module: str, sides: Mapping[str, str], *, embedding: bool) -> _Pair:
    if len(sides) < _MATRIX:
        raise FormatError(f"{next(iter(sides.values()))!r} lacks its other factor")
    name = names.get(f"{unwrapped(module)}.weight")
    for key in sides.values():
        check_factor(key, file.tensors[key])
    left, right = (_matrix(file.tensors[sides[side]]) for side in "BA")
    return _Pair(name, module, sides["A"], left, right, embedding)


def _change(
    settings: _Settings, pair: _Pair, spec: TensorSpec, ways: Sequence[bool], *, wrong: bool
) -> ParameterUpdate:
    """Return the change of a parameter by a pair of factors that fits it in some ways: transposed or not."""
    check_float_parameter(pair.name, spec)
    if not ways:
        raise FormatError(
            f"factors {pair.left.spec} and {pair.right.spec} do not fit parameter {pair.name!r}, which is {spec}",
            hint="git theta ls-files --params shows which model it fits",
        )
    if wrong and len(ways) > 1:
        raise UsageError(
            f"fan_in_fan_out is wrong for some layers, and {pair.name!r} is square, so it may be transposed or not",
            hint="merge it into a file with PEFT, and git theta add that",
        )
    if pair.rank != settings.rank and not settings.ranks_vary:
        raise FormatError(f"{pair.key!r} has rank {pair.rank}, but the configuration has {settings.rank}")
    transposed = settings.transposed if settings.transposed in ways else ways[0]
    scale = settings.scaling(pair.module, pair.rank)
    params = {"scale": scale, "swap": True} if transposed else {"scale": scale}
    return predicted_update("low_rank", params, pair.left, pair.right)


def _matrix(factor: UpdateTensor) -> UpdateTensor:
    """Return the factor of a convolution as a matrix: the kernel dimensions belong to the columns."""
    shape = factor.spec.shape
    if len(shape) <= _MATRIX:
        return factor
    return UpdateTensor(TensorSpec(factor.spec.dtype, (shape[0], math.prod(shape[1:]))), factor.data)


def _settings(file: UpdateFile) -> _Settings:
    config = file.config
    if config is None:
        raise UsageError(
            "there is no adapter_config.json in its directory",
            hint="git theta add PATH --update lora=DIRECTORY, the directory of the adapter",
        )
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        raise UsageError(f"the adapter is of kind {config['peft_type']!r:.40}, not LORA")
    for key, why in _REFUSED.items():
        if config.get(key):
            raise UsageError(f"{key} is set: {why}", hint="merge it into a file with PEFT, and git theta add that")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_OTHER_START):
        raise UsageError(
            f"initialised by {start[:40]!r}, which changes the base model",
            hint="model.save_pretrained(DIRECTORY, path_initial_model_for_weight_conversion=START) makes it plain",
        )
    patterns = _mapping(file, "alpha_pattern")
    return _Settings(
        rank=_rank(config.get("r", 8)),
        alpha=_number("lora_alpha", config.get("lora_alpha", 8)),
        patterns={_plain(key): _number(f"alpha_pattern of {key!r:.80}", value) for key, value in patterns.items()},
        ranks_vary=bool(_mapping(file, "rank_pattern")),
        root=flag(file, "use_rslora"),
        transposed=flag(file, "fan_in_fan_out"),
    )


def _rank(value: object) -> int:
    if type(value) is not int or value < 1:
        raise FormatError(f"r is {value!r:.40}, which is not a rank")
    return value


def _number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST:
        raise FormatError(f"{what} is {value!r:.40}, which is not a finite number")
    return float(value)


def _mapping(file: UpdateFile, key: str) -> Mapping[str, Any]:
    value = (file.config or {}).get(key) or {}
    if not isinstance(value, dict):
        raise FormatError(f"{key} is not a JSON object")
    return value


def _plain(pattern: str) -> str:
    # PEFT takes regular expressions, but one from a file could run forever. In practice the patterns are plain names.
    match = _PLAIN.fullmatch(pattern)
    if match is None:
        raise UsageError(f"alpha_pattern has {pattern[:80]!r}, which is not the name of a module")
    return match["name"].replace("\\.", ".")
