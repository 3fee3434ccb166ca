"""The models of which merges are compared with mergekit's: a small Llama that is trained here, or real fine-tunes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kinds import real_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    State = dict[str, torch.Tensor]

NAMES = ("base", "ours", "theirs")
_LAYERS, _WIDTH, _STEPS, _LENGTH = 4, 32, 60, 64
_TEXTS = {"base": ("README.md", 0), "ours": ("docs/merging.md", 1), "theirs": ("docs/store.md", 2)}
_PAGES = Path(__file__).parents[2]
_HEAD_WIDTH = 32


@dataclass(frozen=True)
class Models:
    """A base and two fine-tunes of it.

    Attributes:
        name: What they are, for people.
        folder: The directory of ``base``, ``ours`` and ``theirs``, each as Transformers writes it.
        states: Their values.
        attention: What the names of the attention's parameters have in common.
        mlp: The same of the MLP.
    """

    name: str
    folder: Path
    states: dict[str, State]
    attention: str
    mlp: str


def real(files: Path, folder: Path) -> Iterator[Models]:
    """Yield the first fine-tune of a BERT encoder with each other one.

    mergekit 0.1.5 fails on its own definition of BERT, so the parameters get the names of RoBERTa, which has the same.

    Args:
        files: A directory with ``base_fp32.safetensors`` and ``NAME_fp32.safetensors``.
        folder: A directory in which this can work.
    """
    for base, pairs in groupby(real_pairs(files), lambda pair: pair[1]):
        tuned = [file for _, _, file in pairs if base.stem == "base_fp32"]
        for other in tuned[1:]:
            place = folder / other.stem
            states = {
                name: _renamed(file, place / name) for name, file in zip(NAMES, (base, tuned[0], other), strict=True)
            }
            pair = " and ".join(file.stem.removesuffix("_fp32") for file in (tuned[0], other))
            yield Models(pair, place, states, "attention", "intermediate")


def _renamed(file: Path, folder: Path) -> State:
    """Write a BERT encoder as a RoBERTa whose heads have the width that those of a small BERT have."""
    from safetensors.torch import load_file, save_file
    from transformers import RobertaConfig

    state = {
        name if name.startswith("pooler.") else f"roberta.{name}": value
        for name, value in load_file(file).items()
        if value.is_floating_point()
    }
    tokens, width = state["roberta.embeddings.word_embeddings.weight"].shape
    config = RobertaConfig(
        architectures=["RobertaModel"],
        vocab_size=tokens,
        hidden_size=width,
        num_hidden_layers=len({name.split(".")[3] for name in state if name.startswith("roberta.encoder.layer.")}),
        num_attention_heads=width // _HEAD_WIDTH,
        intermediate_size=len(state["roberta.encoder.layer.0.intermediate.dense.weight"]),
    )
    config.save_pretrained(folder)
    save_file(state, folder / "model.safetensors")
    return state


def trained(folder: Path) -> Models:
    """Train the base and both fine-tunes, and save them as Transformers does."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=_LAYERS,
        num_attention_heads=4,
        max_position_embeddings=_LENGTH,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    states: dict[str, State] = {}
    for name, (page, seed) in _TEXTS.items():
        if states:
            model.load_state_dict(states["base"])
        _train(model, (_PAGES / page).read_bytes(), seed)
        states[name] = {key: value.clone() for key, value in model.state_dict().items()}
        model.save_pretrained(folder / name)
    return Models("a small Llama", folder, states, "self_attn", "mlp")


def _train(model: Any, text: bytes, seed: int) -> None:
    import torch

    drawn = torch.Generator().manual_seed(seed)
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(_STEPS):
        starts = torch.randint(len(data) - _LENGTH, (8,), generator=drawn)
        batch = torch.stack([data[start : start + _LENGTH] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
