"""Collect or show the statistics that some merge methods need.

"collect" calls a function of yours without arguments. It returns (module, examples, loss): a torch.nn.Module, an
iterable of examples, and a function that runs the module on an example and returns its loss. The checkpoint's values
are loaded into the module. Python modules are looked up in the current directory first.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Sized
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.checkpoint.file import open_checkpoint_file
from git_theta_ext.checkpoint.model_files import open_model_files
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import FormatError, RepositoryError, ThetaError, UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.repository import Repository
from git_theta_ext.registry import built_in
from git_theta_ext.statistics.kinds import DEFAULT_KINDS, find_kinds
from git_theta_ext.statistics.sidecar import check, facts_of, sidecar_of
from git_theta_ext.util.libraries import require
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from git_theta_ext.checkpoint.file import CheckpointFile
    from git_theta_ext.checkpoint.model_files import ModelFiles
    from git_theta_ext.cli.output import Output
    from git_theta_ext.statistics.provider import Provided

GROUP = "merge"
EXAMPLE = "git theta stats collect model.safetensors --with train:statistics --samples 256"

_DEVICES = ("auto", "cpu", "cuda")


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("collect", "show"), help="what to do with the statistics")
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="checkpoint in the work tree, or directory of a model"
    )
    parser.add_argument(
        "--with",
        dest="function",
        metavar="MODULE:FUNCTION",
        help="function that returns module, examples and loss; required to collect",
    )
    parser.add_argument(
        "--kinds",
        metavar="KIND,KIND",
        help=f"kinds to collect, of {', '.join(built_in('statistics'))}; default: {','.join(DEFAULT_KINDS)}",
    )
    parser.add_argument("--samples", metavar="N", type=int, help="number of examples to use; default: all")
    parser.add_argument(
        "--device", choices=_DEVICES, help="device for the module; default: auto, which is CUDA if available"
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Collect or show statistics."""
    output = output_of(args)
    if args.action == "collect":
        return _collect(output, args)
    options = [name for name in ("function", "kinds", "samples", "device") if getattr(args, name) is not None]
    if options:
        option = options[0].replace("function", "with")
        raise UsageError(f"--{option} needs collect", hint=_collect_command(args.checkpoint, args.function))
    return _show(output, args.checkpoint)


def _collect(output: Output, args: argparse.Namespace) -> int:
    checkpoint: Path = args.checkpoint
    if args.function is None:
        raise UsageError("collect needs --with MODULE:FUNCTION", hint=_collect_command(checkpoint, "train:statistics"))
    if args.samples is not None and args.samples < 1:
        raise UsageError("--samples must be at least 1", hint="git theta stats -h")
    kinds = tuple(dict.fromkeys(args.kinds.split(","))) if args.kinds else DEFAULT_KINDS
    find_kinds(kinds)
    require("torch", "git theta stats collect")
    file = open_model_files(checkpoint)
    values = file.values_digest()
    # Imported before the user's directory is on the module search path: it can have files of any name.
    from git_theta_ext.statistics.collect import collect
    from git_theta_ext.statistics.provider import checked, find, importing_from
    from git_theta_ext.statistics.save import save
    from git_theta_ext.statistics.values import load, moving

    device = _device(args)
    with importing_from(Path.cwd()), _user_code(args.function):
        provided = checked(args.function, find(args.function, Path.cwd())())
        load(provided.module, _tensors(file), str(checkpoint))
        provided.module.to(device)
        examples = _Examples(provided, args.samples)
        with output.progress("collecting", examples.total, counted=True) as advance:
            statistics = collect(provided.module, examples.read(advance), moving(provided.loss, device), kinds)
    if open_model_files(checkpoint).values_digest() != values:
        raise FormatError(
            f"{checkpoint} was changed while statistics were collected",
            hint="wait until the file is written, then run the command again",
        )
    path = save(checkpoint, statistics, examples.done)
    data = {
        "checkpoint": str(checkpoint),
        "statistics": str(path),
        "samples": examples.done,
        "kinds": _counted(statistics),
    }
    output.result(
        data,
        [
            f"wrote {path}: {_kinds(_counted(statistics))}, {plural(examples.done, 'example')}",
            f"git add {shell_word(str(path))}",
        ],
    )
    _check_tracked(output, path)
    return 0


def _collect_command(checkpoint: Path, function: str | None = None) -> str:
    return f"git theta stats collect {shell_word(str(checkpoint))} --with {shell_word(function or 'MODULE:FUNCTION')}"


class _Examples:
    """Yields examples and counts those that were used."""

    def __init__(self, provided: Provided, most: int | None) -> None:
        self._examples = provided.examples
        self._most = most
        self.done = 0
        count = len(provided.examples) if isinstance(provided.examples, Sized) else 0
        self.total = min(count, most) if most and count else most or count

    def read(self, advance: Callable[[int], None]) -> Iterator[Any]:
        for example in islice(self._examples, self._most):
            yield example
            self.done += 1
            advance(1)


@contextmanager
def _user_code(function: str) -> Iterator[None]:
    """Report where the user's code failed, and keep its output out of the result."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except ThetaError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise UsageError(
            f"{function} failed: {type(error).__name__}: {error}", hint="see the traceback above"
        ) from error


def _device(args: argparse.Namespace) -> str:
    import torch

    name = args.device or "auto"
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        command = _collect_command(args.checkpoint, args.function)
        raise UsageError("no CUDA device is available", hint=f"{command} --device cpu")
    return "cuda" if name != "cpu" and available else "cpu"


def _tensors(file: ModelFiles) -> dict[str, Any]:
    from git_theta_ext.merging.devices.state_dicts import to_tensor

    return {name: to_tensor(spec, file.value(name)) for name, spec in file.specs.items()}


def _check_tracked(output: Output, path: Path) -> None:
    """Warn if git theta does not track the statistics, as merges would not find them."""
    try:
        repo = Repository.discover()
    except RepositoryError:
        return
    place = path.parent.resolve() / path.name
    if repo.worktree is None or not place.is_relative_to(repo.worktree):
        return
    if not theta_paths(repo.run, [place.relative_to(repo.worktree).as_posix()]):
        command = f"{repo.git_at_top} theta track '*.stats.safetensors'"
        output.warning(f"{path} is not tracked, so merges will not find it", command)


def _show(output: Output, checkpoint: Path) -> int:
    file = open_model_files(checkpoint)
    path = Path(sidecar_of(str(file.path)))
    data: dict[str, Any] = {"checkpoint": str(checkpoint), "statistics": None}
    if not path.exists():
        output.result(data, [f"{checkpoint} has no statistics", f"hint: {_collect_command(checkpoint)}"])
        return 1
    sidecar = open_checkpoint_file(path)
    facts, misfit = facts_of(sidecar.data), _misfit(sidecar, file)
    same = file.values_digest() == facts.values if facts.values else None
    kinds = _counted(sidecar.specs)
    data |= {"statistics": str(path), "samples": facts.samples, "kinds": kinds, "misfit": misfit, "same_values": same}
    samples = "an unknown number of examples" if facts.samples is None else plural(facts.samples, "example")
    output.result(data, [f"{path}: {_kinds(kinds)}, {samples}", *_verdict(checkpoint, misfit, same=same)])
    return int(misfit is not None or same is False)


def _verdict(checkpoint: Path, misfit: str | None, *, same: bool | None) -> Sequence[str]:
    again = f"hint: {_collect_command(checkpoint)}"
    if misfit is not None:
        return [f"statistics do not fit {checkpoint}: {misfit}", again]
    if same is None:
        return [f"statistics fit {checkpoint}; the values that they were collected with are unknown"]
    if same:
        return [f"statistics fit {checkpoint} and were collected with its values"]
    return [f"statistics fit {checkpoint} but were collected with other values", again]


def _misfit(sidecar: CheckpointFile, file: ModelFiles) -> str | None:
    try:
        check(sidecar.specs, file.specs)
    except FormatError as error:
        return error.message
    return None


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts = Counter(name.partition("/")[0] for name in names)
    return dict(sorted(counts.items()))


def _kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} of {plural(count, 'parameter')}" for kind, count in counts.items()) or "no statistics"
