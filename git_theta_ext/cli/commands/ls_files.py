"""List the checkpoints of a commit or of the index.

In a subdirectory, lists those below it, like git ls-files.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.diff.words import human_bytes, plural
from git_theta_ext.git.repository import Repository
from git_theta_ext.model.quantised_weights import quantised_weights
from git_theta_ext.model.units import one_row

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.units import Unit

GROUP = "daily"
EXAMPLE = "git theta ls-files --params HEAD~1"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("rev", metavar="REV", nargs="?", help="commit; default: the index")
    parser.add_argument(
        "--params", action="store_true", help="also list the parameters, with element type, shape and digest"
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """List checkpoints."""
    # In a hook, GIT_PREFIX is the directory of the user, which a script that lists files does not expect to matter.
    repo = Repository.discover(env={name: value for name, value in os.environ.items() if name != "GIT_PREFIX"})
    checkpoints = {
        path: manifest for path, (_, manifest) in repo.manifests(args.rev).items() if path.startswith(repo.prefix)
    }
    data = [describe(path, manifest, parameters=args.params) for path, manifest in checkpoints.items()]
    output_of(args).result({"checkpoints": data}, _lines(repo, checkpoints, parameters=args.params))
    return 0


def describe(path: str, manifest: Manifest, *, parameters: bool) -> dict[str, object]:
    """Describe a checkpoint for JSON."""
    data: dict[str, object] = {
        "path": path,
        "format": manifest.format,
        "skeleton": manifest.skeleton.digest,
        "parameter_count": len(manifest.parameters),
        "tensor_bytes": tensor_bytes(manifest),
        "conflicted": manifest.conflicted,
    }
    if parameters:
        units = units_in(manifest)
        homes = {name: {"unit": unit.name} for unit in units for name in unit.members}
        data["parameters"] = [
            {"name": name, "dtype": p.spec.dtype.name, "shape": list(p.spec.shape), "digest": p.digest}
            | homes.get(name, {})
            for name, p in manifest.parameters.items()
        ]
        data["units"] = [unit.to_dict() for unit in units]
    return data


def units_in(manifest: Manifest) -> list[Unit]:
    """Return the quantised weights of a checkpoint."""
    return quantised_weights({name: [parameter.spec] for name, parameter in manifest.parameters.items()})


def tensor_bytes(manifest: Manifest) -> int:
    """Return the size of all tensors, without the rest of the file."""
    return sum(parameter.spec.nbytes for parameter in manifest.parameters.values())


def summary(manifest: Manifest) -> str:
    """Describe a manifest in one line."""
    conflicts = ", CONFLICTED" if manifest.conflicted else ""
    # The chunks of an unknown format are stored like parameters, but are none.
    count = plural(len(manifest.parameters), "chunk" if manifest.format == "opaque" else "parameter")
    return f"{manifest.format}, {count}, {human_bytes(tensor_bytes(manifest))}{conflicts}"


def parameter_lines(manifest: Manifest) -> Iterator[str]:
    """Yield a line for each parameter: name, element type, shape, digest, and the quantised weight it is a part of."""
    width = max((len(name) for name in manifest.parameters), default=0)
    homes = one_row(units_in(manifest))
    for name, parameter in manifest.parameters.items():
        unit = f"  {homes[name].label}" if name in homes else ""
        yield f"  {name:{width}}  {parameter.spec!s:20}  {parameter.digest[:16]}{unit}"


def _lines(repo: Repository, checkpoints: Mapping[str, Manifest], *, parameters: bool) -> Iterator[str]:
    for path, manifest in checkpoints.items():
        yield f"{repo.relative(path)}  ({summary(manifest)})"
        if parameters:
            yield from parameter_lines(manifest)
