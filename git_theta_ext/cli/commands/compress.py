"""Compress the difference of two models to a small, lossy update.

Keeps the signs of the largest elements of the difference and one scale (ComPEFT). The update can be applied to the old
model: git theta add PATH --update compeft=FILE
"""

from __future__ import annotations

import shutil
import tempfile
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.commands._compared import opened_models
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.comparison.group import Item, fold
from git_theta_ext.comparison.words import human_bytes
from git_theta_ext.errors import UsageError
from git_theta_ext.model.floats import is_real
from git_theta_ext.update.compeft_file import file_head
from git_theta_ext.update.compress import ComparedParameter, Fidelity, Selection, select, write_signs
from git_theta_ext.util.files import reporting_os_errors, writing_output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.cli.commands._compared import ComparedModel
    from git_theta_ext.cli.output import Output

GROUP = "share"
EXAMPLE = "git theta compress --compeft --density 0.05 HEAD:model.safetensors tuned.safetensors -o tuned.compeft"

_GROUPS = 24


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--compeft", action="store_true", required=True, help="the method, which is required; there is no other"
    )
    parser.add_argument(
        "--density", metavar="K", type=float, required=True, help="share of elements to keep, above 0 and at most 1"
    )
    parser.add_argument(
        "--alpha",
        metavar="A",
        type=float,
        default=1.0,
        help="scale of the signs, in standard deviations of the difference; default: 1",
    )
    parser.add_argument("old", metavar="OLD", help="old model: a file or REV:PATH")
    parser.add_argument("new", metavar="NEW", help="new model: a file or REV:PATH")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="file to write")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Compress a difference."""
    output = output_of(args)
    if not 0 < args.density <= 1:
        raise UsageError("--density must be above 0 and at most 1", hint="git theta compress -h")
    if not 0 < args.alpha < float("inf"):
        raise UsageError("--alpha must be above 0 and finite", hint="git theta compress -h")
    if args.output.is_dir() or not args.output.absolute().parent.is_dir():
        raise UsageError(f"{args.output} is a directory, or its directory does not exist", hint="git theta compress -h")
    with opened_models(output, args.old, args.new) as (old, new):
        return _compress(output, old, new, args)


def _compress(output: Output, old: ComparedModel, new: ComparedModel, args: argparse.Namespace) -> int:
    parameters, left_out = _parameters(old, new, args)
    selection = select(parameters, args.density)
    scale = args.alpha * selection.deviation
    if not scale:
        raise UsageError(
            f"{args.new} and {args.old} have the same real floats: there is nothing to compress",
            hint="git theta compress -h",
        )
    fidelities = _write(args.output, parameters, selection, scale, args)
    for name in left_out:
        output.warning(f"{name} differs but is not a float, so the update does not contain it")
    output.warning("the update is lossy: it results in a model near the new one")
    output.result(*_report(args, fidelities, left_out, selection.deviation))
    return 0


def _parameters(
    old: ComparedModel, new: ComparedModel, args: argparse.Namespace
) -> tuple[list[ComparedParameter], list[str]]:
    """Return the real float parameters, and the names of others that differ."""
    odd = sorted(name for name in {*old.specs, *new.specs} if old.specs.get(name) != new.specs.get(name))
    if odd:
        raise UsageError(
            f"parameter {odd[0]!r} does not have the same element type and shape in {args.old} and {args.new}",
            hint="git theta compress -h",
        )

    def chunks(name: str) -> Iterator[tuple[memoryview, memoryview]]:
        return zip(old.chunks(name), new.chunks(name), strict=True)

    parameters: list[ComparedParameter] = []
    left_out: list[str] = []
    for name, spec in sorted(new.specs.items()):
        if is_real(spec.dtype):
            parameters.append(ComparedParameter(name, spec, lambda name=name: chunks(name)))  # type: ignore[misc]
        elif any(one != other for one, other in chunks(name)):
            left_out.append(name)
    return parameters, left_out


def _write(
    path: Path, parameters: Sequence[ComparedParameter], selection: Selection, scale: float, args: argparse.Namespace
) -> dict[str, Fidelity]:
    with (
        reporting_os_errors(path),
        tempfile.TemporaryFile(dir=path.absolute().parent) as signs,
        writing_output(path) as output,
        output.open("wb") as file,
    ):
        fidelities = write_signs(parameters, selection, signs)
        sizes = {name: fidelity.nbytes for name, fidelity in fidelities.items() if fidelity.kept}
        shapes = {pair.name: pair.spec.shape for pair in parameters}
        file.write(file_head(shapes, sizes, scale, args.density, args.alpha))
        signs.seek(0)
        shutil.copyfileobj(signs, file)
    return fidelities


def _report(
    args: argparse.Namespace, fidelities: Mapping[str, Fidelity], left_out: Sequence[str], deviation: float
) -> tuple[dict[str, Any], list[str]]:
    scale = args.alpha * deviation
    whole = reduce(add, fidelities.values(), Fidelity())
    size = args.output.stat().st_size
    groups = [
        (row.label, reduce(add, (fidelities[item.name] for item in row.items), Fidelity()))
        for row in fold([Item("~", name, "") for name in fidelities], _GROUPS)
    ]
    data = {
        "file": str(args.output),
        "lossy": True,
        "left_out": left_out,
        "bytes": size,
        "ideal_bytes": whole.ideal_bits / 8,
        "density": args.density,
        "alpha": args.alpha,
        "scale": scale,
        "elements": whole.elements,
        "kept": whole.kept,
        "relative_error": whole.relative_error(scale),
        "cosine": whole.cosine,
        "best_alpha": whole.best_scale / deviation,
        "groups": [
            {
                "name": label,
                "elements": group.elements,
                "kept": group.kept,
                "relative_error": group.relative_error(scale),
                "cosine": group.cosine,
            }
            for label, group in groups
        ],
    }
    width = max(len(label) for label, _ in groups)
    lines = [
        f"wrote {args.output}: {human_bytes(size)}, {whole.kept} signs of {whole.elements} elements, scale {scale:.4g}",
        f"{'':{width}}  error  cosine    kept",
        *(f"{label:{width}}  {_columns(group, scale)}" for label, group in groups),
        f"{'whole model':{width}}  {_columns(whole, scale)}",
        f"the smallest error is at --alpha {data['best_alpha']:.3g}",
    ]
    return data, lines


def _columns(fidelity: Fidelity, scale: float) -> str:
    share = fidelity.kept / fidelity.elements if fidelity.elements else 0.0
    return f"{fidelity.relative_error(scale):5.1%}  {fidelity.cosine:6.3f}  {share:6.2%}"
