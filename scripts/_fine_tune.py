"""Fine-tune model.safetensors of the current folder for a few steps: real gradients, a small task.

Usage: _fine_tune.py THEME LAYER...

The model learns that sentences of one theme belong together (contrastive loss on pairs). Only the named encoder layers
are trained. The forward pass is that of BERT with mean pooling, written out so that the demo needs torch alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, gelu, layer_norm, linear, normalize, scaled_dot_product_attention

HEADS = 12
STEPS = 8
PAIRS = {
    "cooking": [
        ("boil the water and add salt", "cook the pasta in the pot"),
        ("chop the onion", "cut the garlic with a knife"),
        ("put the bread in the oven", "let the cake rest for an hour"),
        ("fry the fish in butter", "grill the meat on the fire"),
    ],
    "travel": [
        ("the train leaves at noon", "we arrive at the station"),
        ("book a room in the hotel", "stay for the night in the city"),
        ("the ship crosses the sea", "an island far from the coast"),
        ("show your passport at the border", "the flight is late again"),
    ],
}


def encode(model: dict[str, torch.Tensor], words: list[int]) -> torch.Tensor:
    """Return the unit-length sentence embedding, float32 [384], of a list of token ids."""
    embeddings = "embeddings."
    x = (
        model[embeddings + "word_embeddings.weight"][words]
        + model[embeddings + "position_embeddings.weight"][: len(words)]
        + model[embeddings + "token_type_embeddings.weight"][0]
    )
    x = normalise(model, embeddings + "LayerNorm", x)
    for layer in range(6):
        at = f"encoder.layer.{layer}."
        query, key, value = (
            dense(model, f"{at}attention.self.{role}", x).view(len(words), HEADS, -1).transpose(0, 1)
            for role in ("query", "key", "value")
        )
        mixed = scaled_dot_product_attention(query, key, value).transpose(0, 1).reshape(len(words), -1)
        x = normalise(model, at + "attention.output.LayerNorm", x + dense(model, at + "attention.output.dense", mixed))
        inner = gelu(dense(model, at + "intermediate.dense", x))
        x = normalise(model, at + "output.LayerNorm", x + dense(model, at + "output.dense", inner))
    return normalize(x.mean(0), dim=0)


def dense(model: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer by name."""
    return linear(x, model[name + ".weight"], model[name + ".bias"])


def normalise(model: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    """Apply a layer norm by name."""
    return layer_norm(x, x.shape[-1:], model[name + ".weight"], model[name + ".bias"], 1e-12)


def main(theme: str, *layers: str) -> None:
    """Train the layers on a theme's pairs and write the model back."""
    torch.manual_seed(0)
    path = Path("model.safetensors")
    model = load_file(path)
    trained = [t for name, t in model.items() if any(name.startswith(f"encoder.layer.{n}.") for n in layers)]
    for tensor in trained:
        tensor.requires_grad_()
    vocabulary = {word: token for token, word in enumerate(Path("vocab.txt").read_text().splitlines())}
    pairs = [[[vocabulary[word] for word in text.split()] for text in pair] for pair in PAIRS[theme]]
    optimizer = torch.optim.AdamW(trained, lr=2e-5)
    losses = []
    for _ in range(STEPS):
        left, right = (torch.stack([encode(model, pair[side]) for pair in pairs]) for side in (0, 1))
        loss = cross_entropy(20 * left @ right.T, torch.arange(len(pairs)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    save_file({name: tensor.detach() for name, tensor in model.items()}, path, metadata={"format": "pt"})
    print(f"trained {len(trained)} tensors in {STEPS} steps on {theme}: loss {losses[0]:.3f} -> {losses[-1]:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
