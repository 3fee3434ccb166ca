"""Parameters that mean something only together: the factors of a LoRA, and the parts of a quantised weight.

Of each such unit either one side's change is taken whole, or it is merged as one, or all of it is in conflict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from git_theta_ext.model.manifest import side_names
from git_theta_ext.registry import find_merge, find_pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.merging.decision import Decision
    from git_theta_ext.merging.rules import Choice
    from git_theta_ext.model.tensor import TensorSpec

_FACTORS = (
    # PEFT, with or without the adapter's name; embeddings have no "weight". Then kohya's scripts and diffusers.
    (re.compile(r"(.*\.)lora_A((?:\.[^.]+)*)"), "lora_B"),
    (re.compile(r"(.*\.)lora_embedding_A((?:\.[^.]+)*)"), "lora_embedding_B"),
    (re.compile(r"(.*[._])lora_down((?:\.[^.]+)*)"), "lora_up"),
    (re.compile(r"(.*\.lora)\.down((?:\.[^.]+)*)"), ".up"),
)
_QUANTISED = re.compile(
    r"(.*?)(?:\.(?:qweight|qzeros|scales|g_idx|qscales|weight_packed|weight_shape|weight_zero_point)"  # GPTQ, AWQ
    r"|\.weight(?:[._](?:absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*|scale|scale_inv|format))"
    r"|\.(?:SCB|weight_format|input_scale))"  # bitsandbytes, 8-bit floats with scales
)
_MATRIX = 2
DEFAULT_PAIR_METHOD = "lora_svd"


@dataclass(frozen=True)
class PairDecision:
    """A LoRA that several sides changed, to be merged as one.

    Attributes:
        names: Of ``lora_A`` and ``lora_B``.
        alpha: Name of the tensor that holds alpha, where the checkpoint has one.
        changers: Numbers of the sides that changed it.
        choice: The rule, whose method merges pairs.
        specs: Name and spec of what comes out.
        note: Something the user should know.
    """

    names: tuple[str, str]
    alpha: str | None
    changers: tuple[int, ...]
    choice: Choice
    specs: Mapping[str, TensorSpec]
    note: str = ""


def decide_units(decisions: Mapping[str, Decision]) -> tuple[dict[str, Decision], tuple[PairDecision, ...]]:
    """Bring the decisions on each unit's parameters in line.

    Args:
        decisions: On each parameter by itself, in the order of their names.

    Returns:
        The decisions, and the LoRAs to be merged.
    """
    decided = dict(decisions)
    for names in _quantised(decisions):
        members = [decisions[name] for name in names]
        if _mixed(members):
            decided.update({d.name: _whole(d, members, "part of a quantised weight, of which") for d in members})
    pairs = []
    for first, second in _lora_pairs(decisions):
        alpha = _alpha(first, decisions)
        members = [decisions[name] for name in (first, second, alpha) if name is not None]
        if not _mixed(members):
            continue
        pair = _pair(decisions, (first, second), alpha)
        if isinstance(pair, str):
            decided.update({d.name: _whole(d, members, f"part of a LoRA ({pair}), of which") for d in members})
        else:
            pairs.append(pair)
            decided.update({d.name: replace(d, action="compute", source=None, choice=pair.choice) for d in members})
    return decided, tuple(pairs)


def _mixed(members: Sequence[Decision]) -> bool:
    """Tell whether no side's version of all of them would be the result of taking each by itself."""
    count = len(members[0].sides)
    if any(decision.action != "take" for decision in members):
        return True
    results = [decision.value for decision in members]
    return all([decision.sides[side] for decision in members] != results for side in range(count))


def _whole(decision: Decision, members: Sequence[Decision], what: str) -> Decision:
    """Take a part from the side that its rule names, or leave it in conflict if anybody changed it."""
    names = side_names(len(decision.sides))
    if decision.choice.method in (*names, "base"):
        return replace(decision, action="take", source=decision.choice.method)
    if not decision.changers:
        return decision
    who = " and ".join(names[n] for n in sorted({n for member in members for n in member.changers}))
    return replace(decision, state=f"{what} {who} changed something", action="conflict", source=None)


def _quantised(names: Iterable[str]) -> list[list[str]]:
    """Return the names of parameters that are parts of one quantised weight."""
    modules: dict[str, list[str]] = {}
    known = list(names)
    for name in known:
        if match := _QUANTISED.fullmatch(name):
            modules.setdefault(match[1], []).append(name)
    for name in known:
        module = name.removesuffix(".weight")
        if module != name and module in modules:
            modules[module].append(name)
    return [found for found in modules.values() if len(found) > 1]


def _lora_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    known = set(names)
    found = []
    for name in sorted(known):
        for pattern, other in _FACTORS:
            match = pattern.fullmatch(name)
            if match and (second := f"{match[1]}{other}{match[2]}") in known:
                found.append((name, second))
    return found


def _alpha(first: str, names: Iterable[str]) -> str | None:
    """Return the name of the tensor that holds a LoRA's alpha, as kohya's scripts write it."""
    module = re.sub(r"\.?(?:lora_A|lora_down|lora\.down)\b.*", "", first)
    return f"{module}.alpha" if f"{module}.alpha" in set(names) else None


def _pair(decisions: Mapping[str, Decision], names: tuple[str, str], alpha: str | None) -> PairDecision | str:
    """Return how a LoRA is merged, or why it cannot be."""
    a, b = (decisions[name] for name in names)
    choice = a.choice
    if choice.method in (*side_names(len(a.sides)), "base", "theirs", "conflict"):
        return "its rule asks for no arithmetic"
    members = [a, b, *([] if alpha is None else [decisions[alpha]])]
    changers = tuple(sorted({number for decision in members for number in decision.changers}))
    values = [(a.sides[number], b.sides[number]) for number in changers]
    note = ""
    if find_merge(choice.method).contract.granularity != "pair":
        if choice.origin != "default":
            note = f"{names[0]!r}: the factors of a LoRA are merged as one, by {DEFAULT_PAIR_METHOD}"
        defaults = {name: option.default for name, option in find_pair(DEFAULT_PAIR_METHOD).contract.options.items()}
        choice = replace(choice, method=DEFAULT_PAIR_METHOD, options=defaults)
    specs = []
    for one, other in values:
        if one is None or other is None:
            return "deleted by one side"
        specs.append((one.spec, other.spec))
    shapes = {(one.shape[1:], other.shape[:1]) for one, other in specs}
    kinds = {spec.dtype.kind if spec.dtype.arithmetic else "" for pair in specs for spec in pair}
    if kinds != {"float"} or any(len(spec.shape) != _MATRIX for pair in specs for spec in pair):
        return "its factors are no matrices of floats"
    if len(shapes) > 1 or any(one.shape[0] != other.shape[1] for one, other in specs):
        return "its factors do not fit each other"
    first, second = specs[0]
    sides = first.shape[1], second.shape[0]
    rank = find_pair(choice.method).rank([one.shape[0] for one, _ in specs], sides, choice.options)
    merged = {
        names[0]: replace(first, shape=(rank, first.shape[1])),
        names[1]: replace(second, shape=(second.shape[0], rank)),
    }
    return PairDecision(names, alpha, changers, choice, merged, note)
