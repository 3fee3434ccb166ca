"""Collect statistics of a model over examples."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from git_theta_ext.errors import UsageError
from git_theta_ext.statistics.kinds import DEFAULT_KINDS, find_kinds
from git_theta_ext.statistics.sidecar import statistic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch

    from git_theta_ext.interfaces import Observed, StatisticsKind

Example = TypeVar("Example")


def collect(
    module: torch.nn.Module,
    examples: Iterable[Example],
    loss: Callable[[torch.nn.Module, Example], torch.Tensor],
    kinds: Sequence[str] = DEFAULT_KINDS,
) -> dict[str, torch.Tensor]:
    """Run a model on examples and return statistics of its parameters, as docs/statistics.md defines them.

    Parameters and their ``grad`` are not changed. Dropout and batch normalisation follow the mode of the module, so
    call ``module.eval()`` first.

    If one call of ``loss`` covers several examples, ``fisher`` and ``grad_gram`` are those of that loss: the square of
    a mean of gradients, which is smaller than the mean of their squares. ``gram`` is not affected.

    Args:
        module: The model, on any device.
        examples: Arguments of ``loss``, one for each call.
        loss: Runs the module on an example and returns a tensor of one element. For ``fisher`` it is the negative log
            likelihood of a label: one drawn from the model's prediction, or the label of the data for the empirical
            Fisher information. ``gram`` alone does not use the result.
        kinds: Kinds of statistics.

    Returns:
        Tensors by ``KIND/PARAMETER``, float32 on the module's device. A parameter with several names has the same
        tensor under each. A Linear that no example reaches has none.

    Raises:
        UsageError: A kind is unknown, there is no example, no parameter requires a gradient, or the loss is not one
            number.
    """
    import torch

    wanted = find_kinds(kinds)
    learned = [p for p in module.parameters() if p.requires_grad and p.is_floating_point()]
    differentiate = any(kind.observes != "inputs" for kind in wanted)
    if differentiate and not learned:
        raise UsageError("no parameter requires a gradient", hint="call module.requires_grad_()")
    means = _Means(module)
    with ExitStack() as hooks:
        for layer in _linears(module):
            handle = layer.register_forward_hook(_watcher(means, wanted), with_kwargs=True)
            hooks.callback(handle.remove)
        for number, example in enumerate(examples, 1):
            with torch.set_grad_enabled(differentiate):
                value = loss(module, example)
            if differentiate:
                gradients = torch.autograd.grad(_single(value, number), learned, allow_unused=True)
                for kind in _observing(wanted, "gradients"):
                    for parameter, gradient in zip(learned, gradients, strict=True):
                        means.add_gradient(kind, parameter, gradient)
    return means.result()


class _Means:
    """Sums of statistics, and the number of their terms; float32, since they may be larger than the model."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._named = list(module.named_parameters(remove_duplicate=False))
        self._sums: dict[tuple[str, int], torch.Tensor] = {}
        self._counts: dict[tuple[str, int], int] = {}

    def add_gradient(self, kind: StatisticsKind, parameter: torch.Tensor, gradient: torch.Tensor | None) -> None:
        """Add a gradient; None is that of a loss that does not depend on the parameter."""
        import torch

        values = torch.zeros_like(parameter, dtype=torch.float32) if gradient is None else gradient.to_dense().float()
        self._add(kind, parameter, values)

    def add_rows(self, kind: StatisticsKind, parameter: torch.Tensor, values: torch.Tensor) -> None:
        """Add what goes through a Linear: all dimensions but the last one count rows."""
        rows = values.detach().reshape(-1, values.shape[-1]).float()
        if len(rows):
            self._add(kind, parameter, rows)

    def _add(self, kind: StatisticsKind, parameter: torch.Tensor, values: torch.Tensor) -> None:
        import torch

        with torch.autocast(values.device.type, enabled=False):
            total, count = kind.terms(values)
        key = kind.name, id(parameter)
        if key in self._sums:
            self._sums[key] += total
            self._counts[key] += count
        else:
            self._sums[key], self._counts[key] = total, count

    def result(self) -> dict[str, torch.Tensor]:
        """Return the means under all names of their parameters.

        Raises:
            UsageError: There are none.
        """
        if not self._sums:
            raise UsageError("there are no examples, or none reaches a Linear")
        means = {key: total / self._counts[key] for key, total in self._sums.items()}
        return {
            statistic(kind, name): mean
            for (kind, identity), mean in means.items()
            for name, parameter in self._named
            if id(parameter) == identity
        }


def _linears(module: torch.nn.Module) -> Iterator[torch.nn.Linear]:
    """Find the Linears whose weight is a parameter of their own, not one that is computed from others."""
    import torch

    for layer in module.modules():
        if isinstance(layer, torch.nn.Linear) and "weight" in dict(layer.named_parameters(recurse=False)):
            yield layer


def _watcher(means: _Means, kinds: Sequence[StatisticsKind]) -> Callable[..., None]:
    def watch(
        layer: torch.nn.Linear, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any], output: torch.Tensor
    ) -> None:
        for kind in _observing(kinds, "inputs"):
            means.add_rows(kind, layer.weight, args[0] if args else kwargs["input"])
        for kind in _observing(kinds, "output_gradients") if output.requires_grad else ():
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient, kind=kind: means.add_rows(kind, layer.weight, gradient)
            )

    return watch


def _observing(kinds: Sequence[StatisticsKind], what: Observed) -> list[StatisticsKind]:
    return [kind for kind in kinds if kind.observes == what]


def _single(value: torch.Tensor, number: int) -> torch.Tensor:
    if value.numel() != 1:
        raise UsageError(f"the loss of example {number} is of shape {list(value.shape)}", hint="return one number")
    if not value.requires_grad:
        raise UsageError(f"the loss of example {number} depends on no parameter that requires a gradient")
    return value
