"""Find the parameters that belong to the same adapter: the factors of a LoRA, and the parts of other kinds.

Only plain LoRAs can be merged through their factors. For other adapters that are products of several parameters,
averaging these one by one gives a wrong product, so they are never merged by arithmetic.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from collections.abc import Set as AbstractSet

FACTORS = (
    # PEFT, with or without the adapter's name; embeddings have no "weight". Then kohya's scripts and diffusers.
    (re.compile(r"(.*\.)lora_A((?:\.[^.]+)*)"), "lora_B"),
    (re.compile(r"(.*\.)lora_embedding_A((?:\.[^.]+)*)"), "lora_embedding_B"),
    (re.compile(r"(.*[._])lora_down((?:\.[^.]+)*)"), "lora_up"),
    (re.compile(r"(.*\.lora)\.down((?:\.[^.]+)*)"), ".up"),
)
_KINDS = (
    # The parameter names of PEFT, LyCORIS and kohya's scripts. Each module is a unit, unless modules share parameters.
    ("LoHa", re.compile(r"(?:(.*?)[._])?hada_.*")),
    ("LoKr", re.compile(r"(?:(.*?)[._])?lokr_.*")),
    ("DoRA", re.compile(r"(?:(.*?)[._])?(?:lora_magnitude_vector|dora_scale)(?:\..*)?")),
    ("AdaLoRA", re.compile(r"(?:(.*?)[._])?(?:lora_E|ranknum)(?:\..*)?")),
    ("LoCon", re.compile(r"(?:(.*?)[._])?lora_mid(?:\..*)?")),
    ("OFT", re.compile(r"(?:(.*?)[._])?(?:b?oft_[A-Za-z]+)(?:\..*)?")),
    ("HRA", re.compile(r"(?:(.*?)[._])?hra_u(?:\..*)?")),
    ("RoAd", re.compile(r"(?:(.*?)[._])?road_(?:theta|alpha)(?:\..*)?")),
    ("GraLoRA", re.compile(r"(?:(.*?)[._])?gralora_[AB].*")),
    ("Poly", re.compile(r"(?:(.*?)[._])?poly_(?:lora|router).*")),
)
_SHARED = (
    ("VeRA", re.compile(r"(?:.*[._])?vera_(?:[AB]|lambda_[bd])(?:\..*)?")),
    ("VB-LoRA", re.compile(r"(?:.*[._])?vblora_.*")),
    ("RandLoRA", re.compile(r"(?:.*[._])?randlora_.*")),
)
_HINTS = re.compile(
    r"hada_|lokr_|lora_magn|dora_scale|lora_E|ranknum|lora_mid|oft_|hra_u|road_|poly_|vera_|vblora_|randlora_"
)
_OF_A_LORA = re.compile(
    r"(?:(.*?)[._])?(?:(?:lora_(?:A|B|embedding_A|embedding_B|down|up)|lora\.(?:down|up))\b.*|alpha)"
)


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
    module = re.sub(r"\.?(?:lora_A|lora_down|lora\.down)\b.*", "", first)
    return f"{module}.alpha" if f"{module}.alpha" in names else None


def module_of(first: str) -> str:
    """Return the module that a LoRA belongs to, from the name of its first factor."""
    return re.sub(r"\.?(?:lora_A|lora_embedding_A|lora_down|lora\.down)\b.*", "", first)


def other_adapters(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return the kind and the parameter names of each adapter that is not a plain LoRA.

    If a LoRA is part of it (DoRA, AdaLoRA), its factors and alpha are included.
    """
    every = list(names)
    units: dict[str, tuple[str, list[str]]] = {}
    shared: dict[str, list[str]] = {}
    for name in (name for name in every if _HINTS.search(name)):
        for kind, pattern in _KINDS:
            if match := pattern.fullmatch(name):
                units.setdefault(match[1] or "", (kind, []))[1].append(name)
                break
        for kind, pattern in _SHARED:
            if pattern.fullmatch(name):
                shared.setdefault(kind, []).append(name)
    for name in every if units else ():
        match = _OF_A_LORA.fullmatch(name)
        if match and (match[1] or "") in units:
            units[match[1] or ""][1].append(name)
    return [*units.values(), *shared.items()]


def scaled_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the LoRAs that are scaled by a configuration, not by a tensor with alpha."""
    every = dict.fromkeys(names)
    return [pair for pair in lora_pairs(every) if alpha_of(pair[0], every) is None]


def has_scaled_pairs(names: Iterable[str], changed: AbstractSet[str] | None = None) -> bool:
    """Return whether some of ``scaled_pairs`` are among parameters, or among those that changed."""
    pairs = scaled_pairs(names)
    return any(changed is None or not changed.isdisjoint(pair) for pair in pairs)
