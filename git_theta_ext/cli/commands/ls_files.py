"""List the checkpoints of a commit or of the index, or the models that they make up.

In a subdirectory, lists those below it, like git ls-files.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.parser import RevisionsAndPaths
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import UsageError
from git_theta_ext.git.pathspecs import is_within
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import find_object
from git_theta_ext.model.quantised_weights import quantised_weights
from git_theta_ext.model.units import one_row
from git_theta_ext.operations.merge.conflicted_files import together
from git_theta_ext.operations.models import models_among

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.shards import ModelFiles
    from git_theta_ext.model.units import Unit

GROUP = "daily"
EXAMPLE = "git theta ls-files --models HEAD~1 -- run/"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "words",
        metavar="REV|PATH",
        nargs="*",
        action=RevisionsAndPaths,
        help="commit (default: the index), then files and directories (default: all); -- separates them",
    )
    parser.add_argument("--models", action="store_true", help="list models of several files in one line each")
    parser.add_argument(
        "--params", action="store_true", help="also list the parameters, with element type, shape and digest"
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """List checkpoints."""
    # In a hook, GIT_PREFIX is the directory of the user, which a script that lists files does not expect to matter.
    repo = Repository.discover(env={name: value for name, value in os.environ.items() if name != "GIT_PREFIX"})
    rev, paths = _named(repo, args.words, getattr(args, "paths", None))
    places = [os.path.normpath(repo.prefix + path) for path in paths]
    checkpoints = {
        path: manifest
        for path, (_, manifest) in repo.manifests(rev).items()
        if path.startswith(repo.prefix) and (not places or any(is_within(path, place) for place in places))
    }
    models = models_among(repo, rev, checkpoints)
    data = [describe(path, manifest, parameters=args.params) for path, manifest in checkpoints.items()]
    groups = [{path: checkpoints[path] for path in model.shards} for model in models]
    described = [_model(model, group) for model, group in zip(models, groups, strict=True)]
    names = [model.name if len(model.shards) > 1 else model.shards[0] for model in models]
    listed = zip(names, groups, strict=True) if args.models else ((path, {path: m}) for path, m in checkpoints.items())
    lines = chain.from_iterable(_lines(repo, name, group, parameters=args.params) for name, group in listed)
    output_of(args).result({"checkpoints": data, "models": described}, lines)
    return 0


def _named(repo: Repository, words: Sequence[str], paths: Sequence[str] | None) -> tuple[str | None, list[str]]:
    """Return the commit and the paths that words name; without ``--``, a first word that is no path is a commit."""
    if paths is not None:
        if len(words) > 1:
            raise UsageError("more than one commit", hint="git theta ls-files REV -- PATH")
        return next(iter(words), None), list(paths)
    if words and (find_object(repo, f"{words[0]}^{{commit}}") or not os.path.lexists(words[0])):
        return words[0], list(words[1:])
    return None, list(words)


def _model(model: ModelFiles, files: Mapping[str, Manifest]) -> dict[str, object]:
    return {
        "path": model.name if len(files) > 1 else model.shards[0],
        "files": list(files),
        "index": model.index,
        "parameter_count": sum(len(manifest.parameters) for manifest in files.values()),
        "tensor_bytes": sum(map(tensor_bytes, files.values())),
    }


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


def _lines(repo: Repository, name: str, files: Mapping[str, Manifest], *, parameters: bool) -> Iterator[str]:
    whole = together(list(files.values()))
    count = f"{len(files)} files, " if len(files) > 1 else ""
    yield f"{repo.relative(name)}  ({count}{summary(whole)})"
    if parameters:
        yield from parameter_lines(whole)
