"""Describe a checkpoint or one of its parameters.

For a parameter, prints statistics of its values. The shards of a checkpoint in a directory are one model. For an
adapter, prints its kind, rank and scale.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.commands._values import chunks_of, digest_of, everything, fetch_parameter, find_parameter
from git_theta_ext.cli.commands.ls_files import describe, parameter_lines, shown, summary, units_in
from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import ThetaError, UsageError
from git_theta_ext.merging.reporting.adapters import describe_adapter
from git_theta_ext.operations.external_data import tensors_outside
from git_theta_ext.operations.model_names import find_version
from git_theta_ext.records import replace
from git_theta_ext.util.quoting import shell_word, shown_path
from git_theta_ext.util.streaming import Moments

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from git_theta_ext.cli.commands.ls_files import Other
    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.dtypes import Dtype
    from git_theta_ext.operations.workspace import Workspace

GROUP = "daily"
EXAMPLE = "git theta show HEAD:model.safetensors encoder.layer.0.attention.self.query.weight"

_FIRST = 8
_INTEGERS = {"U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8"}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "object", metavar="REV:PATH", help="commit and path of a checkpoint or directory; :PATH is the index's version"
    )
    parser.add_argument("parameter", metavar="PARAM", nargs="?", help="parameter or quantised weight to describe")
    parser.add_argument(
        "--raw", action="store_true", help="write the parameter's little-endian bytes to standard output"
    )
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Describe a checkpoint or a parameter."""
    repo = workspace.repo
    if args.parameter is not None and ":" not in args.object and _is_checkpoint(repo, args.object, args.parameter):
        name = f"{args.object}:{args.parameter}"
        raise UsageError(
            f"{args.object!r} does not name a version of a file", hint=f"git theta show {shell_word(name)}"
        )
    version = find_version(repo, args.object, command="git theta show {}")
    sharded = len(version.shards) > 1
    manifest = version.as_one() if sharded else next(iter(version.shards.values()))
    if args.parameter is None:
        if args.raw:
            raise UsageError("--raw needs a parameter", hint=f"git theta show --raw {shell_word(args.object)} PARAM")
        others: dict[str, Other] = {**version.joined, **tensors_outside(workspace, args.object, version)}
        manifest = shown(manifest, others)
        data = describe(args.object, manifest, parameters=True, others=others)
        files = [
            f"  in {shown_path(path)}  ({plural(len(shard.parameters), 'parameter')})"
            for path, shard in version.shards.items()
        ]
        data |= {"files": list(version.shards)} if sharded else {}
        adapter = describe_adapter(version)
        data |= {} if adapter is None else {"adapter": adapter.to_dict()}
        described = [] if adapter is None else [f"  adapter: {adapter}"]
        first = f"{shown_path(args.object)}  ({summary(manifest, others)})"
        lines = [first, *described, *(files if sharded else []), *parameter_lines(manifest, others)]
        output.result(data, lines)
        return 0
    unit = None if args.raw else next((u for u in units_in(manifest) if args.parameter == u.name), None)
    if unit is not None and args.parameter not in manifest.parameters:
        part = replace(manifest, parameters={name: manifest.parameters[name] for name in unit.members})
        output.result(unit.to_dict(), [unit.label, *parameter_lines(part)])
        return 0
    parameter = find_parameter(everything(workspace, args.object, version), args.parameter, args.object)
    fetch_parameter(workspace, args.parameter, parameter)
    if args.raw:
        for chunk in chunks_of(workspace.store, parameter):
            sys.stdout.buffer.write(chunk)
        return 0
    details: dict[str, Any] = {
        "name": args.parameter,
        "dtype": parameter.spec.dtype.name,
        "shape": list(parameter.spec.shape),
        "bytes": parameter.spec.nbytes,
        "digest": digest_of(workspace.store, parameter),
        **statistics(chunks_of(workspace.store, parameter), parameter.spec.dtype),
    }
    output.result(details, _lines(details))
    return 0


def statistics(chunks: Iterable[memoryview], dtype: Dtype) -> dict[str, Any]:
    """Compute statistics of a tensor's values, chunk by chunk, in float64.

    Args:
        chunks: Its little-endian bytes.
        dtype: Its element type.

    Returns:
        ``first`` values, and for a tensor with finite ones ``min``, ``max``, ``mean`` and ``std`` (of the population)
        over these; ``nan`` and ``inf`` count the others. Empty for element types that are not numbers.

    Raises:
        CorruptError: The stored data does not match its digest.
    """
    import numpy as np

    first: list[float] = []
    moments, nan, inf = Moments(), 0, 0
    least, most = math.inf, -math.inf
    for chunk in chunks:
        values = _values(chunk, dtype)
        if values is None:
            continue
        if len(first) < _FIRST:
            first += values[: _FIRST - len(first)].tolist()
        wide = values.astype(np.float64)
        nan += int(np.isnan(wide).sum())
        inf += int(np.isinf(wide).sum())
        finite = wide[np.isfinite(wide)]
        if not finite.size:
            continue
        moments.add(finite)
        least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    data: dict[str, Any] = {"first": [_plain(value) for value in first]} if first else {}
    if moments.count:
        data |= {"min": least, "max": most, "mean": moments.mean, "std": moments.deviation}
    return data | ({"nan": nan, "inf": inf} if first else {})


def _plain(value: float) -> float | str:
    # JSON has no notation for NaN and infinity.
    return value if math.isfinite(value) else str(value)


def _values(chunk: memoryview, dtype: Dtype) -> NDArray[Any] | None:
    import numpy as np

    from git_theta_ext.model.floats import to_float

    if dtype.arithmetic:
        return to_float(chunk, dtype)
    if dtype.name in _INTEGERS:
        return np.frombuffer(chunk, _INTEGERS[dtype.name])
    return np.frombuffer(chunk, "u1") if dtype.kind == "bool" else None


def _is_checkpoint(repo: Repository, rev: str, path: str) -> bool:
    try:
        return path in repo.manifests(rev)
    except ThetaError:
        return False


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    yield f"{data['name']}  {data['dtype']} {data['shape']}  {human_bytes(data['bytes'])}"
    yield f"digest  {data['digest']}"
    for key in ("min", "max", "mean", "std"):
        if key in data:
            yield f"{key:7} {data[key]:.6g}"
    for key in ("nan", "inf"):
        if data.get(key):
            yield f"{key:7} {data[key]}"
    if "first" in data:
        yield "first   " + " ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in data["first"])
