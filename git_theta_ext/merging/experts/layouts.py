"""How the dense layers of an architecture are named as experts of a mixture, and what its ``config.json`` says.

Names and defaults are those of Transformers; its configurations of dense models and of mixtures have other defaults, so
what a configuration leaves out is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.model.json_text import written_like
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.merging.stacking.config import LayersConfig

DENSE = ".mlp."
"""The beginning of the names in a layer of what becomes an expert."""
UP = ".mlp.up_proj.weight"
"""The matrix in a layer that has the sizes of the layer and of the expert as columns and rows."""
DOWN = ".mlp.down_proj.weight"
_HINT = "git theta moe -h lists the architectures"
_THETA = 10_000.0
"""The base of rotary embeddings that dense models have by default."""


@dataclass(frozen=True)
class ExpertLayout:
    """The layout of a mixture.

    Attributes:
        model_type: Its ``model_type``.
        classes: The beginning of the names of the dense and of the mixture's classes.
        experts: Names in a dense layer to those of an expert, whose number stands for ``{}``.
        router: The name of the router in a layer.
        count: The key of the number of experts.
        shared: Names in a dense layer to those of an expert that every token takes; empty if there is none.
        shared_gate: The name in a layer of the gate of that expert.
        biases: Whether attention may have biases.
        defaults: What dense configurations mean by keys that they leave out.
        settings: What the configuration of a mixture says besides the number of experts.
        sizes: Keys that have the size of an expert.
        dropped: Keys of dense configurations that mixtures have not.
    """

    model_type: str
    classes: tuple[str, str]
    experts: Mapping[str, str]
    router: str
    count: str
    shared: Mapping[str, str] = field(default_factory=dict)
    shared_gate: str = ""
    biases: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[str, ...] = ("intermediate_size",)
    dropped: tuple[str, ...] = ()

    def config(self, dense: LayersConfig, experts: int, each: int, sizes: tuple[int, int]) -> bytes:
        """Return the ``config.json`` of a mixture.

        Args:
            dense: The configuration of the dense model.
            experts: The number of experts.
            each: The number of experts that a token takes.
            sizes: The size of an expert, and of a layer.
        """
        content = {key: value for key, value in dense.content.items() if key not in (*self.dropped, "auto_map")}
        for key, value in self.defaults.items():
            content.setdefault(key, value)
        if "rope_theta" not in {**content, **(content.get("rope_parameters") or {})}:
            content["rope_theta"] = _THETA
        if content.get("num_key_value_heads") is None:
            content["num_key_value_heads"] = content["num_attention_heads"]
        before, after = self.classes
        content["architectures"] = [name.replace(before, after, 1) for name in content.get("architectures") or []]
        content |= {"model_type": self.model_type, "hidden_size": sizes[1], **dict.fromkeys(self.sizes, sizes[0])}
        content |= {self.count: experts, "num_experts_per_tok": each, **self.settings}
        return written_like(dense.text, content).encode()


def layout_for(config: LayersConfig | None, model: str) -> ExpertLayout:
    """Return the layout of a mixture of dense models.

    Args:
        config: The configuration of the dense model.
        model: The model, for errors.

    Raises:
        MergeError: No mixture has the layers of this architecture.
    """
    if config is None:
        raise MergeError(f"{model} has no config.json, which says how its layers compute", hint=_HINT)
    kind = config.content.get("model_type")
    if config.nested or not isinstance(kind, str) or kind not in LAYOUTS:
        raise MergeError(f"{model} has the model_type {kind!r}; experts are made of {', '.join(LAYOUTS)}", hint=_HINT)
    if config.content.get("use_sliding_window"):
        raise MergeError(f"{model} has use_sliding_window, which its mixture applies to other layers", hint=_HINT)
    return LAYOUTS[kind]


_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
_QWEN: Mapping[str, Any] = {
    "experts": {f".mlp.{name}.weight": f".mlp.experts.{{}}.{name}.weight" for name in _PROJECTIONS},
    "router": ".mlp.gate.weight",
    "count": "num_experts",
    "settings": {"decoder_sparse_step": 1, "norm_topk_prob": True, "mlp_only_layers": []},
}
_MIXTRAL: Mapping[str, Any] = {
    "model_type": "mixtral",
    "experts": {
        f".mlp.{name}.weight": f".block_sparse_moe.experts.{{}}.{short}.weight"
        for name, short in zip(_PROJECTIONS, ("w1", "w3", "w2"), strict=True)
    },
    "router": ".block_sparse_moe.gate.weight",
    "count": "num_local_experts",
    "biases": False,
}
LAYOUTS: Mapping[str, ExpertLayout] = {
    "llama": ExpertLayout(
        classes=("Llama", "Mixtral"),
        defaults={"max_position_embeddings": 2048, "rms_norm_eps": 1e-6},
        dropped=("attention_bias", "mlp_bias", "pretraining_tp", "sliding_window"),
        **_MIXTRAL,
    ),
    "mistral": ExpertLayout(
        classes=("Mistral", "Mixtral"),
        defaults={"num_key_value_heads": 8, "rms_norm_eps": 1e-6, "sliding_window": 4096},
        **_MIXTRAL,
    ),
    "qwen2": ExpertLayout(
        model_type="qwen2_moe",
        classes=("Qwen2", "Qwen2Moe"),
        defaults={"num_key_value_heads": 32},
        shared={f".mlp.{name}.weight": f".mlp.shared_expert.{name}.weight" for name in _PROJECTIONS},
        shared_gate=".mlp.shared_expert_gate.weight",
        sizes=("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size"),
        **_QWEN,
    ),
    "qwen3": ExpertLayout(
        model_type="qwen3_moe",
        classes=("Qwen3", "Qwen3Moe"),
        defaults={"num_key_value_heads": 32, "head_dim": 128},
        sizes=("intermediate_size", "moe_intermediate_size"),
        **_QWEN,
    ),
}
"""``model_type`` of dense models to the layout of their mixtures."""
