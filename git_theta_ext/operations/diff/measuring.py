"""Measure the parameters that differ: in threads, each pair of values only once in the life of a repository."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from git_theta_ext.comparison.measure import Measurement, common_rows, comparable, first_rows, measurable
from git_theta_ext.comparison.words import plural
from git_theta_ext.model.tensor import TensorHasher
from git_theta_ext.operations.diff.distance_cache import DistanceCache
from git_theta_ext.util.blas import one_blas_thread
from git_theta_ext.util.threads import batched_map, ordered_map, pool, window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.comparison.compare import Diff, ParameterVersions
    from git_theta_ext.comparison.distance import Distance
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.read_ahead import DecodedPiece
    from git_theta_ext.store.store import Store


_MOST_WAITING = 4
"""Tensors, or batches of small ones, that were read and whose ranks are still to be found."""


class Values(Protocol):
    """What has values that the store may lack."""

    def values(self, name: str, parameter: Parameter) -> Iterator[memoryview] | None:
        """Return a parameter's bytes, ``spec.chunk_bytes`` at a time; None if they are not available."""
        ...


def measure_modified(
    workspace: Workspace, diff: Diff, old: Values, new: Values
) -> tuple[dict[str, Distance], list[str]]:
    """Return the distances of modified parameters, and what to say about those whose values are not available.

    Args:
        workspace: The repository, whose store has most values.
        diff: What changed.
        old: Has values of the older version that the store lacks.
        new: The same for the newer version.
    """
    if "opaque" in (diff.old_format, diff.new_format):
        return {}, []
    wanted = {name: pair for name, pair in diff.modified.items() if measurable(pair.old.spec, pair.new.spec)}
    if not wanted:
        return {}, []
    with DistanceCache(workspace.repo.theta_dir) as cache:
        known = cache.get(wanted)
        rest = {name: pair for name, pair in wanted.items() if name not in known}
        measured = _measured_with_progress(workspace, rest, old, new) if rest else {}
        cache.put({name: (wanted[name], distance) for name, (distance, sure) in measured.items() if sure})
    distances = known | {name: distance for name, (distance, _) in measured.items()}
    missing = len(wanted) - len(distances)
    count = plural(missing, "parameter")
    note = f"the values of {count} are not in this repository; git theta fetch REMOTE REV gets them"
    return {name: distances[name] for name in wanted if name in distances}, [note] if missing else []


def _measured_with_progress(
    workspace: Workspace, pairs: Mapping[str, ParameterVersions], old: Values, new: Values
) -> dict[str, tuple[Distance, bool]]:
    measured: dict[str, tuple[Distance, bool]] = {}
    with workspace.reporter.progress("measuring", sum(pair.new.spec.nbytes for pair in pairs.values())) as advance:
        for name, found in _measured(workspace.store, pairs, old, new):
            measured[name] = found
            advance(pairs[name].new.spec.nbytes)
    return measured


def _measured(
    store: Store, pairs: Mapping[str, ParameterVersions], old: Values, new: Values
) -> Iterator[tuple[str, tuple[Distance, bool]]]:
    """Yield the distance of each pair whose values are available, and whether these had the right digests."""
    absent = store.touch_and_find_missing(version.digest for pair in pairs.values() for version in (pair.old, pair.new))
    stored = {
        name: pair
        for name, pair in pairs.items()
        if absent.isdisjoint((pair.old.digest, pair.new.digest)) and _in_equal_chunks(pair.old.spec, pair.new.spec)
    }
    others = {name: pair for name, pair in pairs.items() if name not in stored}
    # Pieces are measured in parallel, so each matrix product gets one core.
    with one_blas_thread():
        yield from _from_store(store, stored)
        yield from _one_by_one(store, others, (old, new), absent)


def _in_equal_chunks(old: TensorSpec, new: TensorSpec) -> bool:
    """Return whether two tensors are comparable, and their chunks have the same elements; wide ones may have fewer."""
    return comparable(old, new) and old.chunk_bytes * new.dtype.bits == new.chunk_bytes * old.dtype.bits


def _from_store(store: Store, pairs: Mapping[str, ParameterVersions]) -> Iterator[tuple[str, tuple[Distance, bool]]]:
    names = list(pairs)
    measurements = [Measurement(pairs[name].old.spec, pairs[name].new.spec) for name in names]
    groups = [[(version.digest, version.spec) for version in (pairs[name].old, pairs[name].new)] for name in names]

    def work(piece: DecodedPiece) -> object:
        before, after = piece.chunks
        return measurements[piece.group].piece(before, after, piece.element)

    def read() -> Iterator[Measurement]:
        for piece in store.read_aligned(groups, work):
            if piece.chunks:
                measurements[piece.group].add(piece.result)
            else:
                yield measurements[piece.group]

    # The rank of a change takes milliseconds, in which no thread must wait for the next tensor.
    with pool(1, sum(pair.new.spec.nbytes for pair in pairs.values())) as executor:
        results = batched_map(executor, Measurement.result, read(), _MOST_WAITING, lambda done: done.nbytes)
        for name, distance in zip(names, results, strict=True):
            yield name, (distance, True)


def _one_by_one(
    store: Store, pairs: Mapping[str, ParameterVersions], sides: tuple[Values, Values], absent: AbstractSet[Digest]
) -> Iterator[tuple[str, tuple[Distance, bool]]]:
    """Measure parameters of which a version is only in a file, or has more rows, each in a thread."""

    def values(side: Values, name: str, parameter: Parameter) -> Iterator[memoryview] | None:
        if parameter.digest not in absent:
            return store.stream(parameter.digest, parameter.spec)
        return side.values(name, parameter)

    def work(name: str) -> tuple[Distance, bool] | None:
        pair = pairs[name]
        before, after = values(sides[0], name, pair.old), values(sides[1], name, pair.new)
        if before is None or after is None:
            return None
        rows = common_rows(pair.old.spec, pair.new.spec)
        specs = [spec if rows is None else first_rows(spec, rows) for spec in (pair.old.spec, pair.new.spec)]
        measurement = Measurement(*specs)
        hashers = TensorHasher(pair.old.spec), TensorHasher(pair.new.spec)
        sources = _hashed(before, hashers[0]), _hashed(after, hashers[1])
        first = 0
        for old, new in _aligned(sources, (specs[0], specs[1])):
            piece = measurement.piece(old, new, first)
            measurement.add(piece)
            first += piece.distance.elements
        for source in sources:
            deque(source, maxlen=0)  # rows that the other version lacks
        # A file may have been written since its digests were computed.
        sure = [hasher.digest() for hasher in hashers] == [pair.old.digest, pair.new.digest]
        return measurement.result(), sure

    with pool(store.threads, sum(pair.new.spec.nbytes for pair in pairs.values())) as executor:
        for name, found in zip(pairs, ordered_map(executor, work, pairs, window(store.threads)), strict=True):
            if found is not None:
                yield name, found


def _hashed(chunks: Iterator[memoryview], hasher: TensorHasher) -> Iterator[memoryview]:
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk


def _aligned(
    sources: tuple[Iterator[memoryview], Iterator[memoryview]], specs: tuple[TensorSpec, TensorSpec]
) -> Iterator[list[memoryview]]:
    """Yield the same elements of two tensors at a time, whose chunks may have other elements.

    Args:
        sources: The chunks of both tensors, which may have more elements than are wanted.
        specs: Of the first elements of both, as many as are wanted.
    """
    rests = [memoryview(b"")] * 2
    left = specs[0].elements
    while left and all(rests := [rest or next(source, rest) for rest, source in zip(rests, sources, strict=True)]):
        whole = [rest.nbytes * 8 // spec.dtype.bits for rest, spec in zip(rests, specs, strict=True)]
        elements = min(left, *whole)
        sizes = [elements * spec.dtype.bits // 8 for spec in specs]
        yield [rest[:size] for rest, size in zip(rests, sizes, strict=True)]
        rests = [rest[size:] for rest, size in zip(rests, sizes, strict=True)]
        left -= elements
