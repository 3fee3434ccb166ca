"""List the checkpoints of a commit or of the index, or the models that they make up.

In a subdirectory, lists those below it, like git ls-files.
"""

from __future__ import annotations

import os
import posixpath
from contextlib import suppress
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.parser import RevisionsAndPaths
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import FormatError, ThetaError, UsageError
from git_theta_ext.git.pathspecs import is_within
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import find_object
from git_theta_ext.model.external_tensor import ExternalTensor
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.quantised_weights import quantised_weights
from git_theta_ext.model.tensor_pieces import JoinedTensor
from git_theta_ext.model.units import one_row
from git_theta_ext.operations.merge.conflicted_files import together
from git_theta_ext.operations.models import indexed_models
from git_theta_ext.records import replace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.model.shards import ModelFiles
    from git_theta_ext.model.units import Unit

    Other = JoinedTensor | ExternalTensor
    """A parameter that is not one tensor of the file."""

GROUP = "daily"
EXAMPLE = "git theta ls-files --models HEAD~1 -- run/"

_NONE: Mapping[str, JoinedTensor] = MappingProxyType({})


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
    everything = {path: manifest for path, (_, manifest) in repo.manifests(rev).items()}
    checkpoints = {
        path: manifest
        for path, manifest in everything.items()
        if path.startswith(repo.prefix) and (not places or any(is_within(path, place) for place in places))
    }
    models, indexes = indexed_models(repo, rev, checkpoints)
    groups = [{path: checkpoints[path] for path in model.shards} for model in models]
    listed = [_named_as_in_model(model, group, indexes) for model, group in zip(models, groups, strict=True)]
    files = {path: manifest for group, _ in listed for path, manifest in group.items()}
    outside = _outside(repo, output_of(args), rev, files, everything) if args.params else {}
    data = [
        describe(path, shown(files[path], others), parameters=args.params, others=others)
        for path in checkpoints
        for others in [outside.get(path, {})]
    ]
    described = [_model(model, *named) for model, named in zip(models, listed, strict=True)]
    if args.models:
        names = [model.name if len(model.shards) > 1 else model.shards[0] for model in models]
        rows = [
            (name, group, {**joined, **outside.get(name, {})})
            for name, (group, joined) in zip(names, listed, strict=True)
        ]
    else:
        rows = [(path, {path: files[path]}, outside.get(path, {})) for path in checkpoints]
    lines = chain.from_iterable(_lines(repo, *row, parameters=args.params) for row in rows)
    output_of(args).result({"checkpoints": data, "models": described}, lines)
    return 0


def _outside(
    repo: Repository,
    output: Output,
    rev: str | None,
    files: Mapping[str, Manifest],
    everything: Mapping[str, Manifest],
) -> dict[str, dict[str, Other]]:
    """Return the tensors that files have in other ones, or for other ones, by file and name.

    Args:
        repo: The repository.
        output: For warnings.
        rev: A commit; None for the index.
        files: The files that are listed.
        everything: All checkpoints: those that others have tensors for need not be listed.
    """
    from git_theta_ext.checkpoint.external_data import has_external_data
    from git_theta_ext.operations.external_data import tensors_outside
    from git_theta_ext.operations.workspace import Workspace

    near = set(map(posixpath.dirname, files))
    folders = {
        folder
        for path, manifest in everything.items()
        if (folder := posixpath.dirname(path)) in near and has_external_data(manifest.format)
    }
    found: dict[str, dict[str, Other]] = {}
    if folders:
        with Workspace(repo, output) as workspace:
            for path, manifest in files.items():
                with suppress(ThetaError):
                    if posixpath.dirname(path) in folders:
                        version = ModelVersion({path: manifest})
                        found[path] = {**tensors_outside(workspace, f"{rev or ''}:{path}", version)}
    return found


def _named_as_in_model(
    model: ModelFiles, files: Mapping[str, Manifest], indexes: Mapping[str, ModelIndex]
) -> tuple[Mapping[str, Manifest], Mapping[str, JoinedTensor]]:
    """Return the files with the names that the model has for their parameters, and its tensors in several pieces."""
    with suppress(FormatError):  # else each file is what it is by itself
        version = ModelVersion.of(files, model.index, indexes.get(model.index or ""))
        return version.shards, version.joined
    return files, _NONE


def _named(repo: Repository, words: Sequence[str], paths: Sequence[str] | None) -> tuple[str | None, list[str]]:
    """Return the commit and the paths that words name; without ``--``, a first word that is no path is a commit."""
    if paths is not None:
        if len(words) > 1:
            raise UsageError("more than one commit", hint="git theta ls-files REV -- PATH")
        return next(iter(words), None), list(paths)
    if words and (find_object(repo, f"{words[0]}^{{commit}}") or not os.path.lexists(words[0])):
        return words[0], list(words[1:])
    return None, list(words)


def _model(model: ModelFiles, files: Mapping[str, Manifest], joined: Mapping[str, JoinedTensor]) -> dict[str, object]:
    return {
        "path": model.name if len(files) > 1 else model.shards[0],
        "files": list(files),
        "index": model.index,
        "parameter_count": sum(len(_whole(manifest, joined)) for manifest in files.values()) + len(joined),
        "tensor_bytes": sum(map(tensor_bytes, files.values())),
    }


def _whole(manifest: Manifest, joined: Mapping[str, JoinedTensor]) -> dict[str, Parameter]:
    """Return the parameters of a file that are no pieces of a tensor."""
    pieces = {name for tensor in joined.values() for name in tensor.names}
    return {name: parameter for name, parameter in manifest.parameters.items() if name not in pieces}


def shown(manifest: Manifest, others: Mapping[str, Other]) -> Manifest:
    """Return a file without the parameters that others are made of: pieces, and the chunks of external data."""
    if any(isinstance(other, ExternalTensor) for other in others.values()) and manifest.format == "opaque":
        return replace(manifest, parameters={})
    joined = {name: other for name, other in others.items() if isinstance(other, JoinedTensor)}
    return replace(manifest, parameters=_whole(manifest, joined)) if joined else manifest


def describe(
    path: str, manifest: Manifest, *, parameters: bool, others: Mapping[str, Other] = _NONE
) -> dict[str, object]:
    """Describe a checkpoint for JSON.

    Args:
        path: What it is called.
        manifest: Its parameters.
        parameters: Whether these are listed.
        others: Further ones, which are in several pieces, or in other files.
    """
    data: dict[str, object] = {
        "path": path,
        "format": manifest.format,
        "skeleton": manifest.skeleton.digest,
        "parameter_count": len(manifest.parameters) + len(others),
        "tensor_bytes": tensor_bytes(manifest, others),
        "conflicted": manifest.conflicted,
    }
    if parameters:
        units = units_in(manifest)
        homes = {name: {"unit": unit.name} for unit in units for name in unit.members}
        data["parameters"] = [
            {"name": name, "dtype": row.spec.dtype.name, "shape": list(row.spec.shape)}
            | _content(row)
            | homes.get(name, {})
            for name, row in _rows(manifest, others)
        ]
        data["units"] = [unit.to_dict() for unit in units]
    return data


def _rows(manifest: Manifest, others: Mapping[str, Other]) -> Sequence[tuple[str, Parameter | Other]]:
    return sorted([*manifest.parameters.items(), *others.items()]) if others else list(manifest.parameters.items())


def _content(row: Parameter | Other) -> dict[str, object]:
    if isinstance(row, JoinedTensor):
        pieces = [{"name": piece.name, "digest": parameter.digest} for piece, parameter in row.pieces]
        return {"digest": None, "pieces": pieces}
    if isinstance(row, ExternalTensor):
        return {"digest": None, "file": row.file}
    return {"digest": row.digest}


def units_in(manifest: Manifest) -> list[Unit]:
    """Return the quantised weights of a checkpoint."""
    return quantised_weights({name: [parameter.spec] for name, parameter in manifest.parameters.items()})


def tensor_bytes(manifest: Manifest, others: Mapping[str, Other] = _NONE) -> int:
    """Return the size of all tensors, without the rest of the file."""
    return sum(row.spec.nbytes for _, row in _rows(manifest, others))


def summary(manifest: Manifest, others: Mapping[str, Other] = _NONE) -> str:
    """Describe a manifest in one line."""
    conflicts = ", CONFLICTED" if manifest.conflicted else ""
    # The chunks of an unknown format are stored like parameters, but are none.
    chunks = manifest.format == "opaque" and not others
    count = plural(len(manifest.parameters) + len(others), "chunk" if chunks else "parameter")
    return f"{manifest.format}, {count}, {human_bytes(tensor_bytes(manifest, others))}{conflicts}"


def parameter_lines(manifest: Manifest, others: Mapping[str, Other] = _NONE) -> Iterator[str]:
    """Yield a line for each parameter: name, element type, shape, digest, and the quantised weight it is a part of."""
    rows = _rows(manifest, others)
    width = max((len(name) for name, _ in rows), default=0)
    specs = max((len(str(row.spec)) for _, row in rows), default=0)
    homes = one_row(units_in(manifest))
    for name, row in rows:
        unit = f"  {homes[name].label}" if name in homes else ""
        yield f"  {name:{width}}  {row.spec!s:{specs}}  {_place(row)}{unit}"


def _place(row: Parameter | Other) -> str:
    if isinstance(row, JoinedTensor):
        return f"in {len(row.pieces)} pieces"
    return f"in {row.file}" if isinstance(row, ExternalTensor) else row.digest[:16]


def _lines(
    repo: Repository, name: str, files: Mapping[str, Manifest], others: Mapping[str, Other], *, parameters: bool
) -> Iterator[str]:
    listed = shown(together(list(files.values())), others)
    count = f"{len(files)} files, " if len(files) > 1 else ""
    yield f"{repo.shown(name)}  ({count}{summary(listed, others)})"
    if parameters:
        yield from parameter_lines(listed, others)
