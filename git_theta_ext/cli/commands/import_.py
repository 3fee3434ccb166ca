"""Write the arrays of a zarr directory or an Orbax checkpoint to a checkpoint of a format that is tracked.

SOURCE is a group or an array of zarr 2 or 3, or the directory that Orbax saved: of a step, or of an item in it. Names
of parameters are joined with dots. Element types stay as they are. git theta add stages the checkpoint afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.operations.conversion.array_directory import find_arrays
from git_theta_ext.operations.conversion.imports import import_arrays
from git_theta_ext.operations.conversion.output import check_output
from git_theta_ext.operations.conversion.targets import FILES, named_target, target_of
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    import argparse

GROUP = "share"
EXAMPLE = "git theta import checkpoints/1000 model.safetensors"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="SOURCE", type=Path, help="directory of zarr or Orbax")
    parser.add_argument("file", metavar="FILE", type=Path, help="checkpoint to write")
    parser.add_argument("-n", "--dry-run", action="store_true", help="list the parameters, and write nothing")
    parser.add_argument("-f", "--force", action="store_true", help="replace an existing file")
    parser.add_argument("--to", metavar="FORMAT", help=f"format to write: {', '.join(FILES)}; default: by the name")
    parser.add_argument(
        "--param", metavar="GLOB", action="append", default=[], help="only parameters of that name; can be repeated"
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Import arrays."""
    output = output_of(args)
    target = target_of(args.file) if args.to is None else named_target(args.to, FILES)
    if not args.dry_run:
        check_output(
            target,
            args.file,
            force=args.force,
            command=f"git theta import --force {shell_word(str(args.source))} {shell_word(str(args.file))}",
        )
    specs = import_arrays(
        find_arrays(args.source),
        target,
        args.file,
        output,
        patterns=args.param,
        hint=f"git theta import --dry-run {shell_word(str(args.source))} {shell_word(str(args.file))}",
        dry_run=args.dry_run,
    )
    nbytes = sum(spec.nbytes for spec in specs.values())
    listed = [
        {"name": name, "dtype": spec.dtype.name, "shape": list(spec.shape), "bytes": spec.nbytes}
        for name, spec in specs.items()
    ]
    done = "would write" if args.dry_run else "wrote"
    rows = [f"  {name}  {spec}" for name, spec in specs.items()] if args.dry_run else []
    lines = [f"{done} {args.file}: {plural(len(specs), 'parameter')}, {human_bytes(nbytes)}, as {target.name}", *rows]
    data = {"file": str(args.file), "format": target.name, "dry_run": args.dry_run, "parameters": listed}
    output.result(data, lines)
    return 0
