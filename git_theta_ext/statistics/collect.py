"""Collect statistics of a model over examples."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from git_theta_ext.errors import UsageError
from git_theta_ext.statistics.sidecar import FISHER, GRAD_GRAM, GRAM, KINDS, statistic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch

Example = TypeVar("Example")


def collect(
    module: torch.nn.Module,
    examples: Iterable[Example],
    loss: Callable[[torch.nn.Module, Example], torch.Tensor],
    kinds: Sequence[str] = (FISHER, GRAM),
) -> dict[str, torch.Tensor]:
    """Run a model over examples and return statistics of its parameters, as docs/statistics.md defines them.

    Parameters and their ``grad`` stay as they are. Layers that behave otherwise in training (dropout, batch
    normalisation) do what the module's mode says, so put it into the mode in which it will predict: ``module.eval()``.

    Where the loss of several examples together is one call's, ``fisher`` and ``grad_gram`` are those of that loss: the
    square of a mean of gradients, which is smaller than the mean of their squares. ``gram`` does not mind.

    Args:
        module: The model, on any device.
        examples: What ``loss`` is called with, one after another.
        loss: Runs the module on an example and returns a tensor of one element: for ``fisher`` the negative log
            likelihood of a label, either drawn from the model's own prediction or, for the empirical kind, the one
            that the data has. Of what it returns nothing is needed for ``gram`` alone.
        kinds: Of the statistics.

    Returns:
        By ``KIND/PARAMETER``, float32 on the module's device. A parameter that has several names has its statistics
        under each, as one tensor. A Linear that no example went through has none.

    Raises:
        UsageError: There is no such kind, no example, no parameter that requires a gradient, or no single loss.
    """
    import torch

    if unknown := sorted(set(kinds) - set(KINDS)):
        raise UsageError(f"there are no statistics {unknown[0]!r}", hint=f"kinds are {', '.join(KINDS)}")
    learned = [p for p in module.parameters() if p.requires_grad and p.is_floating_point()]
    differentiate = bool({FISHER, GRAD_GRAM} & set(kinds))
    if differentiate and not learned:
        raise UsageError("no parameter requires a gradient", hint="call module.requires_grad_()")
    means = _Means(module)
    with ExitStack() as hooks:
        for layer in _linears(module):
            handle = layer.register_forward_hook(_watcher(means, kinds), with_kwargs=True)
            hooks.callback(handle.remove)
        for number, example in enumerate(examples, 1):
            with torch.set_grad_enabled(differentiate):
                value = loss(module, example)
            if differentiate:
                gradients = torch.autograd.grad(_single(value, number), learned, allow_unused=True)
            if FISHER in kinds:
                for parameter, gradient in zip(learned, gradients, strict=True):
                    means.add_square(parameter, gradient)
    return means.result()


class _Means:
    """Sums of statistics, and over how many rows; float32, since they may be larger than the model."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._named = list(module.named_parameters(remove_duplicate=False))
        self._sums: dict[tuple[str, int], torch.Tensor] = {}
        self._rows: dict[tuple[str, int], int] = {}

    def add_square(self, parameter: torch.nn.Parameter, gradient: torch.Tensor | None) -> None:
        """Add the square of a gradient; None is that of a loss that does not depend on the parameter."""
        import torch

        if gradient is None:
            square = torch.zeros_like(parameter, dtype=torch.float32)
        else:
            square = gradient.to_dense().float().square()
        self._add((FISHER, id(parameter)), square, 1)

    def add_gram(self, kind: str, parameter: torch.Tensor, values: torch.Tensor) -> None:
        """Add the Gram matrix of rows, which are all that the last dimension is behind."""
        import torch

        rows = values.detach().reshape(-1, values.shape[-1]).float()
        if len(rows):
            with torch.autocast(rows.device.type, enabled=False):
                self._add((kind, id(parameter)), rows.T @ rows, len(rows))

    def _add(self, key: tuple[str, int], values: torch.Tensor, rows: int) -> None:
        if key in self._sums:
            self._sums[key] += values
            self._rows[key] += rows
        else:
            self._sums[key], self._rows[key] = values, rows

    def result(self) -> dict[str, torch.Tensor]:
        """Return the means under all names of their parameters.

        Raises:
            UsageError: There are none.
        """
        if not self._sums:
            raise UsageError("there was no example, or none that went through a Linear")
        means = {key: total / self._rows[key] for key, total in self._sums.items()}
        return {
            statistic(kind, name): means[kind, id(parameter)]
            for kind in KINDS
            for name, parameter in self._named
            if (kind, id(parameter)) in means
        }


def _linears(module: torch.nn.Module) -> Iterator[torch.nn.Linear]:
    """Find the Linears whose weight is a parameter of their own, not one that is computed from others."""
    import torch

    for layer in module.modules():
        if isinstance(layer, torch.nn.Linear) and "weight" in dict(layer.named_parameters(recurse=False)):
            yield layer


def _watcher(means: _Means, kinds: Sequence[str]) -> Callable[..., None]:
    def watch(
        layer: torch.nn.Linear, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any], output: torch.Tensor
    ) -> None:
        if GRAM in kinds:
            means.add_gram(GRAM, layer.weight, args[0] if args else kwargs["input"])
        if GRAD_GRAM in kinds and output.requires_grad:
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: means.add_gram(GRAD_GRAM, layer.weight, gradient)
            )

    return watch


def _single(value: torch.Tensor, number: int) -> torch.Tensor:
    if value.numel() != 1:
        raise UsageError(f"the loss of example {number} is of shape {list(value.shape)}", hint="return one number")
    if not value.requires_grad:
        raise UsageError(f"the loss of example {number} depends on no parameter that requires a gradient")
    return value
