"""Extract a LoRA from the difference of two models, as a directory that PEFT loads.

The factors of each changed matrix come from a singular value decomposition. The adapter can be applied to the old model
by PEFT, or by git theta add PATH --update lora=DIRECTORY. Changes that a LoRA cannot have, such as those of norms and
biases, are left out and listed.
"""

from __future__ import annotations

from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.commands._compared import opened_models
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.comparison.group import Item, fold
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import UsageError
from git_theta_ext.model.floats import is_real, to_float64
from git_theta_ext.operations.adapter_directory import write_adapter
from git_theta_ext.operations.conversion.tensors import chosen
from git_theta_ext.update.lora_factors import Layout, adapter_config, extract, is_weight
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.folders import temporary_folder
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.cli.commands._compared import ComparedModel
    from git_theta_ext.cli.output import Output
    from git_theta_ext.update.lora_factors import Extracted

GROUP = "share"
EXAMPLE = "git theta extract --rank 16 main:model.safetensors tuned:model.safetensors -o adapter/"

_GROUPS = 24
_MOST = 1 << 16


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--rank", metavar="R", type=int, default=32, help="largest rank of a matrix; default: 32")
    parser.add_argument(
        "--energy",
        metavar="E",
        type=float,
        default=1.0,
        help="share of the squared norm of a change that suffices, for which smaller ranks are taken; default: 1",
    )
    parser.add_argument(
        "--param", metavar="GLOB", action="append", default=[], help="only parameters of that name; can be repeated"
    )
    parser.add_argument("old", metavar="OLD", help="old model: a file or REV:PATH")
    parser.add_argument("new", metavar="NEW", help="new model: a file or REV:PATH")
    parser.add_argument(
        "-o", "--output", metavar="DIRECTORY", type=Path, required=True, help="new or empty directory to write"
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Extract a LoRA."""
    output = output_of(args)
    if not 0 < args.rank <= _MOST:
        raise UsageError(f"--rank must be from 1 to {_MOST}", hint="git theta extract -h")
    if not 0 < args.energy <= 1:
        raise UsageError("--energy must be above 0 and at most 1", hint="git theta extract -h")
    folder: Path = args.output
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"directory {folder.parent} does not exist", hint=f"mkdir -p {shell_word(str(folder.parent))}")
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UsageError(f"{folder} already exists, and is not an empty directory", hint="choose another name")
    with opened_models(output, args.old, args.new) as (old, new):
        return _extract(output, old, new, args)


def _extract(output: Output, old: ComparedModel, new: ComparedModel, args: argparse.Namespace) -> int:
    both = [name for name in sorted(new.specs) if name in old.specs and old.specs[name].shape == new.specs[name].shape]
    missing = sorted({*old.specs, *new.specs}.difference(both))
    names = chosen(both, args.param, place=args.new, hint="git theta extract -h")
    layout, extracted, left_out = Layout.of(old.specs), [], {}
    with output.progress("extracting", sum(new.specs[name].nbytes for name in names)) as advance:
        for name in names:
            if is_real(old.specs[name].dtype) and is_real(new.specs[name].dtype):
                difference = _values(new, name) - _values(old, name)
                if not is_weight(name, new.specs[name]):
                    left_out[name] = float((difference * difference).sum())
                elif (found := extract(name, difference, layout, args.rank, args.energy)) is not None:
                    extracted.append(found)
            advance(new.specs[name].nbytes)
    left_out = {name: energy for name, energy in left_out.items() if energy}
    if not extracted:
        raise UsageError(f"no matrix of {args.new} differs from {args.old}", hint="git theta extract -h")
    if missing:
        output.warning(f"only one model has these, or in another shape: {shortlist(missing)}")
    if left_out:
        output.warning(f"changes that a LoRA cannot have are left out: {shortlist(sorted(left_out))}")
    tensors = {name: tensor for each in extracted for name, tensor in each.tensors.items()}
    with reporting_os_errors(args.output), temporary_folder(args.output.absolute().parent) as folder:
        made = folder / "adapter"
        made.mkdir()
        write_adapter(made, tensors, adapter_config(extracted, layout))
        made.rename(args.output)
    output.result(*_report(args, extracted, left_out, missing))
    return 0


def _values(model: ComparedModel, name: str) -> NDArray[np.float64]:
    spec = model.specs[name]
    return to_float64(memoryview(b"".join(model.chunks(name))), spec.dtype).reshape(spec.shape)


def _report(
    args: argparse.Namespace, extracted: Sequence[Extracted], left_out: dict[str, float], missing: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    by_module = {each.module: each for each in extracted}
    rows = [
        (row.label, [by_module[item.name] for item in row.items])
        for row in fold([Item("~", module, "") for module in by_module], _GROUPS)
    ]
    energy = fsum(each.energy for each in extracted) + fsum(left_out.values())
    size = sum(file.stat().st_size for file in args.output.iterdir())
    data = {
        "directory": str(args.output),
        "bytes": size,
        "rank": max(each.rank for each in extracted),
        "kept_energy": fsum(each.kept for each in extracted) / energy,
        "modules": {each.module: {"rank": each.rank, "kept_energy": each.kept / each.energy} for each in extracted},
        "left_out": {name: part / energy for name, part in left_out.items()},
        "not_compared": list(missing),
    }
    width = max(len("whole model"), *(len(label) for label, _ in rows))
    lines = [
        f"wrote {args.output}: {human_bytes(size)}, a LoRA of {plural(len(extracted), 'module')}",
        f"{'':{width}}    rank  energy kept",
        *(f"{label:{width}}  {_ranks(group):>6}  {_share(group):11.2%}" for label, group in rows),
        f"{'whole model':{width}}  {_ranks(extracted):>6}  {data['kept_energy']:11.2%}",
    ]
    return data, lines


def _ranks(group: Sequence[Extracted]) -> str:
    ranks = sorted(each.rank for each in group)
    return str(ranks[0]) if ranks[0] == ranks[-1] else f"{ranks[0]}-{ranks[-1]}"


def _share(group: Sequence[Extracted]) -> float:
    return fsum(each.kept for each in group) / fsum(each.energy for each in group)
