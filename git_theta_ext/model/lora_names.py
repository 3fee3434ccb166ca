"""Find the factors of LoRAs by the names that tools give them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

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
