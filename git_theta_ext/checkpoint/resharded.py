"""Divide the tensors of a version into the pieces that another version has, as another number of processes would."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.model.layout import Layout, Literal
from git_theta_ext.model.manifest import Parameter, Skeleton
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.tensor_pieces import JoinedTensor, TensorPiece
from git_theta_ext.records import replace
from git_theta_ext.store.batches import Batches
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from git_theta_ext.model.layout import Segment
    from git_theta_ext.store.store import Store

    Known = dict[tuple[object, ...], Parameter]
    """What is cut out of which pieces, and the result."""


def store_whole(store: Store, version: ModelVersion, names: Container[str] | None = None) -> dict[str, Parameter]:
    """Store the tensors of a version that are in pieces once more, and return all its parameters by name.

    No commit names those, so that garbage collection removes them.

    Args:
        store: Holds the pieces.
        version: The version.
        names: Which tensors; others stay in pieces. All if None.

    Raises:
        ThetaError: A piece is missing or damaged, or the store cannot be written.
    """
    results, made, pieces = Batches(store), dict[str, Parameter](), set[str]()
    for name, tensor in version.joined.items():
        if names is None or name in names:
            made[name] = results.add(tensor.spec, tensor.value(_reader(store)))
            pieces |= tensor.names
    results.flush()
    return {name: value for name, value in version.parameters.items() if name not in pieces} | made


def reshard(store: Store, version: ModelVersion, target: ModelVersion, known: Known) -> ModelVersion:
    """Return a version with the files, and the pieces, that another version has.

    What the files hold besides tensors comes from ``version``.

    Args:
        store: Holds the pieces and the layouts of both. New pieces are stored in it; no commit names them.
        version: The version that is divided otherwise.
        target: A version of the same tensors.
        known: Pieces that were stored by an earlier call, to which the others are added.

    Raises:
        MergeError: The objects of the versions, such as the state of an optimizer, cannot be exchanged.
        ThetaError: A piece is missing or damaged, or the store cannot be written.
    """
    assert version.index is not None
    assert target.index is not None
    results = Batches(store)
    values: dict[str, Parameter] = {}
    for name, whole in target.whole.items():
        if name in version.joined:
            start = (0,) * len(whole.spec.shape)
            values[name] = _part(results, version.joined[name], whole, start, known, _reader(store))
        else:
            values[name] = version.parameters[name]
    for name, tensor in target.joined.items():
        source = version.joined.get(name) or _alone(name, version.parameters[name])
        read = _reader(store)
        for piece, parameter in tensor.pieces:
            values[piece.name] = _part(results, source, parameter, piece.start, known, read)
        values |= {empty: target.parameters[empty] for empty in tensor.empty}
    results.flush()
    files = {}
    for path in target.shards:
        manifest, names = target.in_files(path), target.names_in_file(path)
        parameters = {names[name]: values[name] for name in target.shards[path].parameters}
        skeleton = _with_objects(store, version, target, path)
        files[path] = replace(manifest, parameters=parameters, skeleton=skeleton)
    return ModelVersion.of(files, target.index_path, target.index)


def _reader(store: Store) -> Callable[[str, Parameter], bytearray | memoryview]:
    """Return a function that reads each piece once, however many parts of it are taken."""
    values: dict[str, bytearray | memoryview] = {}

    def read(name: str, parameter: Parameter) -> bytearray | memoryview:
        if name not in values:
            values[name] = store.read(parameter.digest, parameter.spec)
        return values[name]

    return read


def _alone(name: str, parameter: Parameter) -> JoinedTensor:
    shape = parameter.spec.shape
    return JoinedTensor(parameter.spec, ((TensorPiece(name, (0,) * len(shape), shape), parameter),))


def _part(  # noqa: PLR0913, PLR0917 - what a part is
    results: Batches,
    source: JoinedTensor,
    like: Parameter,
    start: tuple[int, ...],
    known: Known,
    read: Callable[[str, Parameter], bytearray | memoryview],
) -> Parameter:
    """Return a part of a tensor as a parameter; a piece that has the same place is it."""
    for piece, parameter in source.pieces:
        if piece.start == start and piece.shape == like.spec.shape:
            return parameter
    key = (start, like.spec.shape, *((piece.start, parameter.digest) for piece, parameter in source.pieces))
    if key not in known:
        known[key] = results.add(like.spec, source.part(start, like.spec.shape, read))
    return known[key]


def _with_objects(store: Store, version: ModelVersion, target: ModelVersion, path: str) -> Skeleton:
    """Return the layout of a file of ``target`` with the objects of ``version``, which have the same sizes."""
    assert version.index is not None
    assert target.index is not None
    skeleton, file = target.in_files(path).skeleton, posixpath.basename(path)
    changed: dict[tuple[int, int], bytes] = {}
    layout = read_skeleton(store, skeleton, parameters=len(target.in_files(path).parameters), path=path)
    for name, (home, start, size) in target.index.objects.items():
        if home == file:
            ours, theirs = [*_within(layout, start, start + size)], [*_object(store, version, name)]
            if ours != theirs:
                if not all(isinstance(segment, Literal) for segment in (*ours, *theirs)):
                    raise MergeError(f"{name!r} has tensors in it, and differs between versions in other pieces")
                changed[start, start + size] = b"".join(s.data for s in theirs if isinstance(s, Literal))
    if not changed:
        return skeleton
    segments = tuple(_replaced(segment, at, changed) for at, segment in layout.located())
    data = Layout(segments, layout.packings).to_skeleton()
    made = Skeleton.of(data)
    store.put([(made.spec, made.digest, memoryview(data))])
    return made


def _object(store: Store, version: ModelVersion, name: str) -> Iterator[Segment]:
    """Yield the segments of an object."""
    assert version.index is not None
    file, start, size = version.index.objects[name]
    path = next(path for path in version.shards if posixpath.basename(path) == file)
    manifest = version.in_files(path)
    layout = read_skeleton(store, manifest.skeleton, parameters=len(manifest.parameters), path=path)
    return _within(layout, start, start + size)


def _within(layout: Layout, start: int, end: int) -> Iterator[Segment]:
    """Yield the segments in a range of a file, of which literals are cut."""
    for at, segment in layout.located():
        if at < end and at + segment.nbytes > start:
            if isinstance(segment, Literal):
                yield Literal(segment.data[max(0, start - at) : end - at])
            else:
                yield segment


def _replaced(segment: Segment, at: int, changed: dict[tuple[int, int], bytes]) -> Segment:
    """Return a segment with other bytes in some ranges of the file, as far as it is literal."""
    if not isinstance(segment, Literal):
        return segment
    data = bytearray(segment.data)
    for (start, end), content in changed.items():
        first, last = max(start, at), min(end, at + segment.nbytes)
        if first < last:
            data[first - at : last - at] = content[first - start : last - start]
    return Literal(bytes(data))
