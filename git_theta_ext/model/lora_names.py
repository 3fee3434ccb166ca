"""Find the LoRAs of a model by the names that tools give to their factors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.model.units import LORA, Unit

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.model.tensor import TensorSpec

FACTORS = (
    # PEFT, with or without the adapter's name; embeddings have no "weight". Then kohya's scripts and diffusers. Older
    # versions and scripts for other models write "to_q_lora.down" and "qkv_lora1.down".
    (re.compile(r"(.*\.)lora_A((?:\.[^.]+)*)"), "lora_B"),
    (re.compile(r"(.*\.)lora_embedding_A((?:\.[^.]+)*)"), "lora_embedding_B"),
    (re.compile(r"(.*[._])lora_down((?:\.[^.]+)*)"), "lora_up"),
    (re.compile(r"(.*[._]lora[0-9]*)\.down((?:\.[^.]+)*)"), ".up"),
)
_FIRST = re.compile(r"[._]?(?:lora_A|lora_embedding_A|lora_down|lora[0-9]*\.down)\b.*")


def lora_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names of the two factors of each LoRA."""
    every = set(names)
    pairs = []
    for name in sorted(name for name in every if "lora" in name):
        for pattern, other in FACTORS:
            match = pattern.fullmatch(name)
            if match and (second := f"{match[1]}{other}{match[2]}") in every:
                pairs.append((name, second))
    return pairs


def alpha_of(first: str, names: Container[str]) -> str | None:
    """Return the name of the tensor with a LoRA's alpha, as kohya's scripts write it, or None."""
    name = f"{module_of(first)}.alpha"
    return name if name in names else None


def module_of(first: str) -> str:
    """Return the module that a LoRA belongs to, from the name of its first factor."""
    return _FIRST.sub("", first)


def lora_unit(first: str, second: str, names: Container[str], details: tuple[str, ...] = ()) -> Unit:
    """Return the factors of a LoRA, and its alpha, as a unit."""
    alpha = alpha_of(first, names)
    return Unit(module_of(first), LORA, details, tuple(sorted([first, second, *([] if alpha is None else [alpha])])))


def loras(versions: Mapping[str, Sequence[TensorSpec | None]]) -> Iterator[Unit]:
    """Yield the LoRAs with the rank in each version.

    Args:
        versions: Name to the specs of all versions; None in versions that do not have the parameter.
    """
    for first, second in lora_pairs(versions):
        ranks = dict.fromkeys(spec.shape[0] for spec in versions[first] if spec is not None and spec.shape)
        yield lora_unit(first, second, versions, tuple(f"rank {rank}" for rank in ranks))
