"""Fine-tune model.safetensors of the current folder for a few steps: real gradients, a small task.

Usage: _fine_tune.py THEME LAYER...

The model learns that sentences of one theme belong together (contrastive loss on pairs). Only the named encoder layers
are trained.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from benchmarks.encoder import encode
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

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


def main(theme: str, *layers: str) -> None:
    """Train the layers on a theme's pairs and write the model back."""
    torch.manual_seed(0)
    path = Path("model.safetensors")
    model = load_file(path)
    trained = [t for name, t in model.items() if any(name.startswith(f"encoder.layer.{n}.") for n in layers)]
    for tensor in trained:
        tensor.requires_grad_()
    vocabulary = {word: token for token, word in enumerate(Path("vocab.txt").read_text().splitlines())}
    pairs = [[torch.tensor([[vocabulary[word] for word in text.split()]]) for text in pair] for pair in PAIRS[theme]]
    optimizer = torch.optim.AdamW(trained, lr=2e-5)
    losses = []
    for _ in range(STEPS):
        left, right = (torch.cat([encode(model, pair[side]) for pair in pairs]) for side in (0, 1))
        loss = cross_entropy(20 * left @ right.T, torch.arange(len(pairs)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    save_file({name: tensor.detach() for name, tensor in model.items()}, path, metadata={"format": "pt"})
    print(f"trained {len(trained)} tensors in {STEPS} steps on {theme}: loss {losses[0]:.3f} -> {losses[-1]:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
