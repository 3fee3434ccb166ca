"""Rank and scale of each LoRA according to the configuration of its adapter.

The update of a weight is ``scale * B @ A``, and the scale is in the configuration: alpha over the rank, or over its
square root.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.planning.module_patterns import ModulePatterns
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "base_model.model."
"""The prefix that PEFT adds to the names of modules."""
DEFAULT = 8
"""PEFT's rank and alpha of a configuration that has none."""

_KEYS = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
_BASE = "base_model_name_or_path"
_LARGEST = 1 << 20
_NOT_PLAIN = {
    "use_bdlora": "their factors are block-diagonal",
    "target_parameters": "they have factors for each expert",
    "kasa_config": "KaSA changes the base model, too",
    "monteclora_config": "their factors are random",
}
_MEANING = ("use_dora", "use_qalora", "fan_in_fan_out", "layer_replication", "alora_invocation_tokens")
_OTHER_START = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Fit:
    """What a configuration says of the LoRA of a module.

    Attributes:
        rank: Its rank.
        scale: The factor by which the product of its factors is multiplied.
    """

    rank: int
    scale: float

    def __str__(self) -> str:
        return f"rank {self.rank} and scale {self.scale:g}"


@dataclass(frozen=True)
class Scaling:
    """Rank and scale of each LoRA according to a configuration.

    Attributes:
        settings: Canonical text of these settings, by which two are equal.
        base: The model that it adapts, as far as its name says; empty if it is unknown.
        meaning: Canonical text of the settings that say what the factors are, besides rank and scale.
    """

    settings: str
    base: str = field(default="", compare=False)
    meaning: str = field(default="{}", compare=False)
    _config: Mapping[str, Any] = field(compare=False, default_factory=dict)
    _prefix: str = field(compare=False, default="")

    @classmethod
    def of(cls, config: Mapping[str, Any], prefix: str = "") -> Scaling:
        """Return the ranks and scales of a configuration.

        Args:
            config: The configuration.
            prefix: The prefix of the names of modules, which patterns do not have.
        """
        scaling = {key: config[key] for key in _KEYS if config.get(key) not in (None, {}) and config[key] is not False}
        meaning: dict[str, object] = {key: config[key] for key in _MEANING if config.get(key)}
        start = config.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(_OTHER_START):
            meaning["init_lora_weights"] = start
        plain = {key: config[key] for key in _NOT_PLAIN if config.get(key)}
        return cls(
            json.dumps(scaling, sort_keys=True),
            base_model(config),
            json.dumps(meaning, sort_keys=True, default=str),
            scaling | plain,
            prefix,
        )

    def fit(self, module: str, rank: int | None = None) -> Fit:
        """Return rank and scale of a module's LoRA.

        Args:
            module: The module.
            rank: Its rank, if that is not the one of the configuration.

        Raises:
            MergeError: The configuration is not supported.
        """
        rank, alpha = rank or self.rank(module), self.alpha(module)
        return Fit(rank, alpha / (rank**0.5 if self.stabilised else rank))

    def rank(self, module: str) -> int:
        """Return the rank of a module's LoRA.

        Raises:
            MergeError: The configuration is not supported.
        """
        value = self._value(module, self._ranks, "r")
        if type(value) is not int or not 0 < value <= _LARGEST:
            raise MergeError(f"a rank of {value!r:.40} is not supported")
        return value

    def alpha(self, module: str) -> float:
        """Return the alpha of a module's LoRA.

        Raises:
            MergeError: The configuration is not supported.
        """
        alpha = self._value(module, self._alphas, "lora_alpha")
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < abs(alpha) <= _LARGEST:
            raise MergeError(f"an alpha of {alpha!r:.40} is not supported")
        return alpha

    def scale(self, module: str) -> float:
        """Return the factor by which the product of a module's factors is multiplied.

        Raises:
            MergeError: The configuration is not supported.
        """
        return self.fit(module).scale

    @property
    def stabilised(self) -> bool:
        """Whether alpha is divided by the square root of the rank (rsLoRA)."""
        return bool(self._config.get("use_rslora"))

    def check_plain(self) -> None:
        """Check that updates are products of the two factors.

        Raises:
            MergeError: They are something else.
        """
        for key, reason in _NOT_PLAIN.items():
            if key in self._config:
                raise MergeError(f"{key} is set, and {reason}")

    @cached_property
    def _ranks(self) -> ModulePatterns:
        return _patterns(self._config, "rank_pattern")

    @cached_property
    def _alphas(self) -> ModulePatterns:
        return _patterns(self._config, "alpha_pattern")

    def _value(self, module: str, patterns: ModulePatterns, key: str) -> object:
        pattern = patterns.find(module.removeprefix(self._prefix).removeprefix(PREFIX)) if patterns.values else None
        return self._config.get(key, DEFAULT) if pattern is None else patterns.values[pattern]


def base_model(config: Mapping[str, Any]) -> str:
    """Return the name of the model that an adapter is for; empty if it is unknown.

    The same model has another directory on another machine, and an owner on a hub.
    """
    base = config.get(_BASE)
    return base.replace("\\", "/").rstrip("/").rpartition("/")[2] if isinstance(base, str) else ""


def _patterns(config: Mapping[str, Any], key: str) -> ModulePatterns:
    patterns = config.get(key, {})
    if not isinstance(patterns, dict):
        raise MergeError(f"{key} is not a mapping")
    return ModulePatterns(patterns)


@dataclass(frozen=True)
class Scalings:
    """The scaling of the LoRAs in each component of a model, by the prefix of their parameters' names."""

    components: tuple[tuple[str, Scaling], ...] = ()

    def of(self, module: str) -> Scaling | None:
        """Return the scaling of a module's LoRA, or None."""
        return next((scaling for prefix, scaling in self.components if module.startswith(prefix)), None)
