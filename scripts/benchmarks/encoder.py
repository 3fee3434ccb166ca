"""The forward pass of a BERT encoder on tensors by name, so that training only needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.functional import dropout, gelu, layer_norm, linear, normalize, scaled_dot_product_attention

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    Model = Mapping[str, torch.Tensor]

HEADS = 12


def depth(model: Model) -> int:
    """Return the number of layers."""
    return len({name.split(".")[2] for name in model if name.startswith("encoder.layer.")})


def encode(model: Model, tokens: torch.Tensor, drop: float = 0.0) -> torch.Tensor:
    """Return the sentence embeddings of token ids.

    Args:
        model: Parameters in float32, with the Hugging Face names of a BERT model without its pooler.
        tokens: Int64 [sentences, length].
        drop: Probability of dropout after the embeddings, the attention and both halves of a layer.

    Returns:
        The normalised mean of the last layer's tokens: float32 [sentences, width].
    """
    sentences, length = tokens.shape
    x = (
        model["embeddings.word_embeddings.weight"][tokens]
        + model["embeddings.position_embeddings.weight"][:length]
        + model["embeddings.token_type_embeddings.weight"][0]
    )
    x = dropout(_normalise(model, "embeddings.LayerNorm", x), drop)
    for layer in range(depth(model)):
        at = f"encoder.layer.{layer}."
        query, key, value = (
            _dense(model, f"{at}attention.self.{role}", x).view(sentences, length, HEADS, -1).transpose(1, 2)
            for role in ("query", "key", "value")
        )
        mixed = scaled_dot_product_attention(query, key, value, dropout_p=drop).transpose(1, 2).flatten(2)
        mixed = dropout(_dense(model, f"{at}attention.output.dense", mixed), drop)
        x = _normalise(model, f"{at}attention.output.LayerNorm", x + mixed)
        inner = dropout(_dense(model, f"{at}output.dense", gelu(_dense(model, f"{at}intermediate.dense", x))), drop)
        x = _normalise(model, f"{at}output.LayerNorm", x + inner)
    return normalize(x.mean(1), dim=1)


def _dense(model: Model, name: str, x: torch.Tensor) -> torch.Tensor:
    return linear(x, model[f"{name}.weight"], model[f"{name}.bias"])


def _normalise(model: Model, name: str, x: torch.Tensor) -> torch.Tensor:
    return layer_norm(x, x.shape[-1:], model[f"{name}.weight"], model[f"{name}.bias"], 1e-12)
