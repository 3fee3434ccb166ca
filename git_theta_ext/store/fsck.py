"""Check that packs are what their names say, and that all that manifests name can be decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, FormatError, MissingError
from git_theta_ext.model.layout import Layout
from git_theta_ext.model.tensor import skeleton_spec
from git_theta_ext.store.pool import no_progress
from git_theta_ext.store.reader import read_pack_header
from git_theta_ext.store.writer import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.blobs import Store


@dataclass(frozen=True)
class Problem:
    """Something wrong with a store.

    Attributes:
        kind: ``corrupt`` or ``missing``.
        where: The pack's file, or the manifest's place.
        what: In words.
    """

    kind: str
    where: str
    what: str


_NAMED = 3


def check_packs(store: Store, advance: Callable[[int], None] = no_progress) -> Iterator[Problem]:
    """Compare each pack's bytes with its name; any flipped bit shows.

    Args:
        store: With its alternates.
        advance: Told the number of bytes read, as it goes.
    """
    for _, path in store.pack_files():
        size = path.stat().st_size
        if (actual := sha256_of(path)) != path.name:
            yield Problem("corrupt", str(path), f"its bytes have the SHA-256 {actual}")
        elif (problem := _check_header(path, size)) is not None:
            yield problem
        advance(size)


def _check_header(path: Path, size: int) -> Problem | None:
    try:
        if read_pack_header(path).pack_bytes != size:
            return Problem("corrupt", str(path), f"{size} bytes are not what its header says")
    except CorruptError as error:
        return Problem("corrupt", str(path), error.message)
    return None


def check_manifests(
    store: Store,
    manifests: Mapping[str, Manifest],
    *,
    decode: bool = False,
    elsewhere: AbstractSet[Digest] = frozenset(),
    advance: Callable[[int], None] = no_progress,
) -> Iterator[Problem]:
    """Check that all that manifests name can be had.

    Args:
        store: With its alternates.
        manifests: By their place, such as ``HEAD:model.safetensors``.
        decode: Decode every tensor that is here and compare it with its digest; otherwise only look it up.
        elsewhere: Digests that a remote holds: not to have them here is no problem.
        advance: Told the number of tensor bytes dealt with, as it goes.
    """
    seen: set[Digest] = set()
    for place, manifest in manifests.items():
        missing = store.missing(digest for digest, _ in manifest.digests())
        if lost := missing - elsewhere:
            yield Problem("missing", place, _lost(manifest, lost))
        if manifest.skeleton.digest not in missing:
            yield from _check_skeleton(store, place, manifest)
        for name, parameter in manifest.parameters.items():
            if decode and parameter.digest not in seen and parameter.digest not in missing:
                seen.add(parameter.digest)
                yield from _check_tensor(store, f"{place}: {name}", parameter.digest, parameter.spec)
            advance(parameter.spec.nbytes)


def _lost(manifest: Manifest, lost: AbstractSet[Digest]) -> str:
    names = [repr(name) for name, parameter in manifest.parameters.items() if parameter.digest in lost]
    if manifest.skeleton.digest in lost:
        names.append("the skeleton")
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"neither here nor on a remote: {', '.join(names[:_NAMED])}{more}"


def _check_skeleton(store: Store, place: str, manifest: Manifest) -> Iterator[Problem]:
    skeleton = manifest.skeleton
    try:
        layout = Layout.from_skeleton(store.read(skeleton.digest, skeleton_spec(skeleton.nbytes)))
    except (CorruptError, FormatError, MissingError) as error:
        yield Problem("corrupt", place, error.message)
    else:
        if layout.parameters != {name: parameter.spec for name, parameter in manifest.parameters.items()}:
            yield Problem("corrupt", place, "the manifest's parameters and its layout disagree")


def _check_tensor(store: Store, place: str, digest: Digest, spec: TensorSpec) -> Iterator[Problem]:
    try:
        for _ in store.stream(digest, spec):
            pass
    except (CorruptError, MissingError) as error:
        yield Problem("corrupt", place, error.message)
