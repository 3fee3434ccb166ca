"""Write a version of a checkpoint to a file or to standard output, or all files of a directory to a directory.

For archives, and for tools that do not use git. With --to or --param, writes the parameters of one model in another
format, or refuses those that the format cannot hold without a loss.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import ChangedError, UsageError
from git_theta_ext.git.revisions import find_object, manifest_of
from git_theta_ext.operations.conversion.export import export_parameters
from git_theta_ext.operations.conversion.output import check_output
from git_theta_ext.operations.conversion.targets import TARGETS, named_target, target_of
from git_theta_ext.operations.conversion.tensors import chosen
from git_theta_ext.operations.export import export_files, files_below
from git_theta_ext.operations.model_names import find_version, full_path
from git_theta_ext.operations.sync.fetch import ensure_local
from git_theta_ext.operations.tied import with_all_names
from git_theta_ext.util.folders import temporary_folder
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace

GROUP = "share"
EXAMPLE = "git theta export v1.0:model.safetensors /tmp/model.safetensors"

_STDOUT = "-"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "object", metavar="REV:PATH", help="commit and path of a checkpoint or directory; :PATH is the index's version"
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="file or directory to write; - is standard output")
    parser.add_argument("-f", "--force", action="store_true", help="replace existing files")
    parser.add_argument("--to", metavar="FORMAT", help=f"format to write: {', '.join(TARGETS)}")
    parser.add_argument(
        "--param", metavar="GLOB", action="append", default=[], help="only parameters of that name; can be repeated"
    )
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Export a version."""
    if args.to is not None or args.param:
        return _converted(output, workspace, args)
    if str(args.file) != _STDOUT and (files := _files(workspace, args.object)):
        return _directory(output, workspace, files, args)
    manifest = manifest_of(workspace.repo, args.object, command=f"git theta export {{}} {shell_word(str(args.file))}")
    if str(args.file) == _STDOUT:
        return _to_stdout(workspace, manifest)
    if args.file.is_dir():
        name = Path(args.object).name.rpartition(":")[2]
        raise UsageError(
            f"{args.file} is a directory",
            hint=f"git theta export {shell_word(args.object)} {shell_word(str(args.file / name))}",
        )
    if os.path.lexists(args.file) and not args.force:
        raise UsageError(
            f"{args.file} already exists",
            hint=f"git theta export --force {shell_word(args.object)} {shell_word(str(args.file))}",
        )
    if not args.file.absolute().parent.is_dir():
        raise UsageError(
            f"directory {args.file.parent} does not exist", hint=f"mkdir -p {shell_word(str(args.file.parent))}"
        )
    expected = Expected.at(args.file)
    with output.progress("fetching", 0) as advance:
        ensure_local(workspace, [manifest], advance)
    with output.progress("writing", sum(nbytes for _, nbytes in manifest.digests())) as advance:
        stat = populate(manifest, workspace.store, args.file, expected, advance)
    if stat is None:
        raise ChangedError(
            f"another program changed {args.file} during the export; its file was kept",
            hint=f"git theta export --force {shell_word(args.object)} {shell_word(str(args.file))}",
        )
    os.utime(args.file)  # make and similar tools expect a current date
    output.result({"file": str(args.file), "bytes": stat.st_size}, [f"wrote {args.file}"])
    return 0


def _converted(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    target = target_of(args.file) if args.to is None else named_target(args.to)
    version = find_version(workspace.repo, args.object, command=f"git theta export --to {target.name} {{}} FILE")
    version = with_all_names(workspace, version)
    hint = f"git theta show {shell_word(args.object)}"
    names = chosen(version.specs, args.param, place=args.object, hint=hint)
    if str(args.file) == _STDOUT:
        if target.directory:
            raise UsageError(f"{target.name} is a directory", hint="git theta export -h")
        with temporary_folder(workspace.store.root) as folder:
            path = folder / "converted"
            export_parameters(workspace, version, names, target, path, label=args.object)
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
        return 0
    options = "".join(f" --param {shell_word(pattern)}" for pattern in args.param)
    command = (
        f"git theta export --force --to {target.name}{options} {shell_word(args.object)} {shell_word(str(args.file))}"
    )
    check_output(target, args.file, force=args.force, command=command)
    export_parameters(workspace, version, names, target, args.file, label=args.object)
    size = sum(file.stat().st_size for file in [args.file, *args.file.rglob("*")] if file.is_file())
    data = {"file": str(args.file), "format": target.name, "parameters": names, "bytes": size}
    output.result(data, [f"wrote {args.file}: {plural(len(names), 'parameter')} as {target.name}"])
    return 0


def _files(workspace: Workspace, name: str) -> dict[str, TreeEntry]:
    """Return the files of the directory that ``REV:PATH`` names; none if it names something else."""
    rev, separator, typed = name.partition(":")
    if not separator or (rev and find_object(workspace.repo, f"{rev}^{{commit}}") is None):
        return {}
    return files_below(workspace, rev or None, full_path(workspace.repo, typed))


def _directory(output: Output, workspace: Workspace, files: Mapping[str, TreeEntry], args: argparse.Namespace) -> int:
    written = export_files(workspace, files, args.file, force=args.force)
    lines = [f"wrote {file}" for file in written]
    output.result({"files": list(map(str, written)), "bytes": sum(file.stat().st_size for file in written)}, lines)
    return 0


def _to_stdout(workspace: Workspace, manifest: Manifest) -> int:
    """Write the checkpoint to a temporary file first, as no part of it is verified before the whole is."""
    store = workspace.store
    with workspace.reporter.progress("fetching", 0) as advance:
        ensure_local(workspace, [manifest], advance)
    with temporary_folder(store.root) as folder:
        path = folder / "checkpoint"
        populate(manifest, store, path, Expected.at(path))
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    return 0
