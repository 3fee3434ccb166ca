"""Write the values of a parameter to standard output.

Writes its little-endian bytes, or an .npy file of numpy with --npy.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from git_theta_ext.cli.commands._values import chunks_of, everything, fetch_parameter, find_parameter
from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.errors import FormatError
from git_theta_ext.operations.conversion.npz_file import types, write_header
from git_theta_ext.operations.model_names import find_version
from git_theta_ext.operations.tied import with_all_names

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.workspace import Workspace

GROUP = "daily"
EXAMPLE = "git theta cat --npy v1.0:model.safetensors embeddings.weight > weight.npy"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "object", metavar="REV:PATH", help="commit and path of a checkpoint or directory; :PATH is the index's version"
    )
    parser.add_argument("parameter", metavar="PARAM", help="name of the parameter")
    parser.add_argument("--npy", action="store_true", help="write an .npy file, with element type and shape")


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:  # noqa: ARG001 - has no result
    """Write a parameter."""
    version = find_version(workspace.repo, args.object, command="git theta cat {} PARAM")
    values = everything(workspace, args.object, with_all_names(workspace, version))
    parameter = find_parameter(values, args.parameter, args.object)
    kind = parameter.spec.dtype.name
    if args.npy and kind not in types():
        raise FormatError(
            f"parameter {args.parameter!r} has elements of the type {kind}, which numpy does not have",
            hint="git theta cat without --npy writes their bytes",
        )
    fetch_parameter(workspace, args.parameter, parameter)
    if args.npy:
        write_header(sys.stdout.buffer, parameter.spec)
    for chunk in chunks_of(workspace.store, parameter):
        sys.stdout.buffer.write(chunk)
    return 0
