"""Put a checkpoint's values into a model, all of them or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from git_theta_ext.errors import FormatError
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

Example = TypeVar("Example")


def load(module: torch.nn.Module, values: Mapping[str, torch.Tensor], whose: str) -> None:
    """Load values into a model; names and shapes must be the same.

    If a parameter has several names in the model, the checkpoint needs one of them.

    Args:
        module: The model.
        values: Those of the checkpoint, by name.
        whose: The checkpoint, for messages.

    Raises:
        FormatError: Names or shapes differ; the message has them, and the model is as it was.
    """
    import torch

    # A module may have state other than tensors, which a checkpoint does not have.
    own = {name: value for name, value in module.state_dict(keep_vars=True).items() if torch.is_tensor(value)}
    names: dict[int, list[str]] = {}
    for name, tensor in own.items():
        names.setdefault(id(tensor), []).append(name)
    filled = dict(values)
    for tied in names.values():
        present = [name for name in tied if name in values]
        filled.update({name: values[present[0]] for name in tied if present and name not in values})
    lacking, extra = sorted(set(own) - set(filled)), sorted(set(values) - set(own))
    shapes = [
        f"{name} {list(filled[name].shape)}, {list(own[name].shape)} in the model"
        for name in sorted(set(own) & set(filled))
        if filled[name].shape != own[name].shape
    ]
    wrong = [
        f"{what} {shortlist(wrong_names)}"
        for what, wrong_names in (
            ("lacks", lacking),
            ("has, and the model lacks,", extra),
            ("has other shapes:", shapes),
        )
        if wrong_names
    ]
    if wrong:
        raise FormatError(f"{whose} does not fit the model: it {'; it '.join(wrong)}", hint=_prefix(lacking, extra))
    module.load_state_dict(filled, strict=False)


def moved(example: Any, device: str) -> Any:
    """Return an example with all tensors in it on a device, through lists, tuples and mappings."""
    import torch

    if isinstance(example, torch.Tensor):
        return example.to(device)
    if isinstance(example, dict):
        return {key: moved(value, device) for key, value in example.items()}
    if isinstance(example, tuple) and hasattr(example, "_fields"):
        return type(example)(*(moved(value, device) for value in example))
    if isinstance(example, list | tuple):
        return type(example)(moved(value, device) for value in example)
    return example


def moving(loss: Callable[[torch.nn.Module, Any], torch.Tensor], device: str) -> Callable[..., torch.Tensor]:
    """Return a loss that takes examples to a device first."""
    return lambda module, example: loss(module, moved(example, device))


def _prefix(lacking: Sequence[str], extra: Sequence[str]) -> str:
    """Guess what may have happened to the names."""
    for one, other, what in ((lacking, extra, "the model's"), (extra, lacking, "the checkpoint's")):
        prefixes = {name[: -len(end)] for name, end in zip(one, other, strict=False) if name.endswith(end)}
        if one and len(one) == len(other) and len(prefixes) == 1 and all(map(str.endswith, one, other)):
            return f"{what} names begin with {prefixes.pop()!r}; return the module inside, or save it without"
    return "return the model that the checkpoint was saved from"
