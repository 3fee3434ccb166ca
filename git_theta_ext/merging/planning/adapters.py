"""Find the parameters that belong to the same adapter: the factors of a LoRA, and the parts of other kinds.

Only plain LoRAs can be merged through their factors. For other adapters that are products of several parameters,
averaging these one by one gives a wrong product, so they are never merged by arithmetic.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from git_theta_ext.model.lora_names import alpha_of, lora_pairs, module_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

_KINDS = (
    # The parameter names of PEFT, LyCORIS and kohya's scripts. Each module is a unit, unless modules share parameters.
    ("LoHa", r"(?:(.*?)[._])?hada_.*"),
    ("LoKr", r"(?:(.*?)[._])?lokr_.*"),
    ("DoRA", r"(?:(.*?)[._])?(?:lora_magnitude_vector|dora_scale)(?:\..*)?"),
    ("AdaLoRA", r"(?:(.*?)[._])?(?:lora_E|ranknum)(?:\..*)?"),
    ("LoCon", r"(?:(.*?)[._])?lora_mid(?:\..*)?"),
    ("PSOFT", r"(?:(.*?)[._])?psoft_.*"),
    ("OFT", r"(?:(.*?)[._])?b?oft_[A-Za-z_]+(?:\..*)?"),
    ("HRA", r"(?:(.*?)[._])?hra_u(?:\..*)?"),
    ("RoAd", r"(?:(.*?)[._])?road_(?:theta|alpha)(?:\..*)?"),
    ("GraLoRA", r"(?:(.*?)[._])?gralora_[AB].*"),
    ("Poly", r"(?:(.*?)[._])?poly_(?:lora|router).*"),
    ("AdaMSS", r"(?:(.*?)[._])?adamss_.*"),
    ("DeFT", r"(?:(.*?)[._])?deft_[PR](?:\..*)?"),
    ("DeLoRA", r"(?:(.*?)[._])?delora_.*"),
    ("FRoD", r"(?:(.*?)[._])?frod_.*"),
    ("GLoRA", r"(?:(.*?)[._])?glora_.*|(lora_.*)\.[ab][12](?:\..*)?"),
    ("HiRA", r"(?:(.*?)[._])?hira_.*"),
    ("OSF", r"(?:(.*?)[._])?osf_.*"),
    ("PEANuT", r"(?:(.*?)[._])?peanut_.*"),
    ("Shadow", r"(?:(.*?)[._])?shadow_(?:backbone|down|up|update_gate|update_transform)\..*"),
    ("SuperTuning", r"(?:(.*?)[._])?supertuning_.*"),
)
_SHARED = (
    ("Lily", r"(?:.*[._])?lily_.*"),
    ("Multitask prompt", r"(?:.*\.)?prefix_task_(?:cols|rows)"),
    ("VeRA", r"(?:.*[._])?p?vera_(?:[AB]|lambda_[bd])(?:\..*)?"),
    ("VB-LoRA", r"(?:.*[._])?vblora_.*"),
    ("RandLoRA", r"(?:.*[._])?randlora_.*"),
    ("TinyLoRA", r"(?:.*[._])?tinylora_.*"),
    ("UniLoRA", r"(?:.*[._])?unilora_.*"),
)
_HINTS = re.compile(
    r"hada_|lokr_|lora_magn|dora_scale|lora_E|ranknum|lora_mid|oft_|hra_u|road_|poly_|vera_|vblora_|randlora_|adamss_"
    r"|deft_|delora_|frod_|glora_|hira_|osf_|peanut_|shadow_|supertuning_|lily_|tinylora_|unilora_|prefix_task_|\.[ab][12]\."
)
_SCALAR = r"(?:(.*?)[._])?scalar"
_OF_A_LORA = r"(?:(.*?)[._])?(?:(?:lora_(?:A|B|embedding_A|embedding_B|down|up)|lora\.(?:down|up))\b.*|alpha|scalar)"

_compiled = cache(re.compile)
"""Compiles a pattern: most models have no adapter, and to compile all of these patterns takes 2 ms."""


def other_adapters(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return the kind and the parameter names of each adapter that is not a plain LoRA.

    If a LoRA is part of it (DoRA, AdaLoRA), its factors and alpha are included.
    """
    every = list(names)
    units: dict[str, tuple[str, list[str]]] = {}
    shared: dict[str, list[str]] = {}
    for name in (name for name in every if _HINTS.search(name)):
        for kind, pattern in _KINDS:
            if match := _compiled(pattern).fullmatch(name):
                units.setdefault(match[match.lastindex or 1] or "", (kind, []))[1].append(name)
                break
        for kind, pattern in _SHARED:
            if _compiled(pattern).fullmatch(name):
                shared.setdefault(kind, []).append(name)
    units |= {module: ("scaled LoRA", []) for module in _scaled_by_scalars(every) if module not in units}
    for name in every if units else ():
        match = _compiled(_OF_A_LORA).fullmatch(name)
        if match and (match[1] or "") in units:
            units[match[1] or ""][1].append(name)
    return [*units.values(), *shared.items()]


def _scaled_by_scalars(names: Sequence[str]) -> set[str]:
    """Return the modules of the LoRAs that LyCORIS multiplies by a trained number."""
    ends = [name for name in names if name.endswith("scalar")]
    scalars = {match[1] or "" for name in ends if (match := _compiled(_SCALAR).fullmatch(name))}
    return scalars & {module_of(first) for first, _ in lora_pairs(names)} if scalars else set()


def scaled_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the LoRAs that are scaled by a configuration, not by a tensor with alpha."""
    every = dict.fromkeys(names)
    return [pair for pair in lora_pairs(every) if alpha_of(pair[0], every) is None]


def has_scaled_pairs(names: Iterable[str], changed: AbstractSet[str] | None = None) -> bool:
    """Return whether some of ``scaled_pairs`` are among parameters, or among those that changed."""
    pairs = scaled_pairs(names)
    return any(changed is None or not changed.isdisjoint(pair) for pair in pairs)
