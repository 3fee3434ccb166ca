"""Check that packs match their names, and that all tensors that manifests name can be decoded."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cluster.jobs import Job, divided
from git_theta_ext.errors import CorruptError, MissingError, ThetaError
from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import closure, shallowest
from git_theta_ext.store.locations import filtered, flattened, pack_ids, usable, with_parts
from git_theta_ext.store.packs.file_names import names_of
from git_theta_ext.store.packs.finishing import pack_path
from git_theta_ext.store.packs.reader import read_pack_header, wrong_tensor
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.store.verification.examine import UNREADABLE, WORTH, lacks_plugin
from git_theta_ext.util.text import shortlist
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.model.manifest import Manifest, Skeleton
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.locations import Locations
    from git_theta_ext.store.store import Store
    from git_theta_ext.store.verification.checks import PackReads


@dataclass(frozen=True)
class Problem:
    """A problem of a store.

    Attributes:
        kind: ``corrupt``, ``missing``, or ``plug-in`` if the check needs a plug-in that is not installed.
        where: Path of the pack, or name of the manifest.
        what: Description of the problem.
        pack: Path of the damaged pack, if it is known.
    """

    kind: str
    where: str
    what: str
    pack: str = ""


_HASHING = 1 << 26
"""Bytes of memory that a job takes that hashes packs: mostly the header of one."""

_LAYOUTS = 64
"""Number of layouts in memory. The versions of a checkpoint mostly share one, and the files of a model alternate."""

NAMED = 3
"""How many parameters a message names."""


def specs_of(manifests: Iterable[Manifest]) -> dict[Digest, TensorSpec]:
    """Return digest and spec of every tensor and skeleton that some manifests name."""
    specs: dict[Digest, TensorSpec] = {}
    for manifest in manifests:
        specs[manifest.skeleton.digest] = manifest.skeleton.spec
        specs.update((parameter.digest, parameter.spec) for parameter in manifest.parameters.values())
    return specs


def check_packs(
    store: Store,
    advance: Callable[[int], None] = no_progress,
    reads: PackReads | None = None,
    workers: Workers | None = None,
) -> Iterator[Problem]:
    """Compare the SHA-256 of each pack with its name.

    Args:
        store: The store, with its alternates.
        advance: Called with the number of bytes read since the last call.
        reads: The packs that need not be read again; those that are intact are added.
        workers: Hash packs in jobs if these are large; None to hash them in this thread.
    """
    damaged = {(root, name) for root in store.roots for name in store.verdicts.damaged(str(root))}
    packs = []
    for root, entry in store.pack_entries():
        with suppress(FileNotFoundError):  # another process recoded it
            stat = entry.stat()
            if (root, entry.name) not in damaged and reads is not None and reads.unchanged(entry.path, stat):
                advance(stat.st_size)
            else:
                packs.append((root, Path(entry.path), stat))
    results = _hashed([(root, path, stat.st_size) for root, path, stat in packs], workers)
    for (root, path, stat), wrong in zip(packs, results, strict=True):
        if wrong is None:
            continue
        if wrong or (root, path.name) in damaged:
            store.doubt_pack(root, path.name)  # if it is intact now, it was repaired
        if wrong:
            yield Problem("corrupt", str(path), wrong, str(path))
        elif reads is not None:
            with suppress(FileNotFoundError):
                reads.add(path, stat)
        advance(stat.st_size)


def _hashed(packs: Sequence[tuple[Path, Path, int]], workers: Workers | None) -> Iterator[str | None]:
    """Yield what is wrong with each pack, given by root, path and size."""
    sizes = [size for _, _, size in packs]
    if workers is None or sum(sizes) < WORTH:
        return chain.from_iterable(_wrong_packs(packs[at : at + 2]) for at in range(0, len(packs), 2))
    jobs = (Job(partial(_wrong_packs, part), _HASHING) for part in divided(packs, sizes))
    return chain.from_iterable(workers.gather(jobs))


def _wrong_packs(packs: Sequence[tuple[Path, Path, int]]) -> list[str | None]:
    """Return what is wrong with each pack; empty if nothing is, None if the pack is gone."""
    try:
        names = names_of([path for _, path, _ in packs])
        return [_wrong_pack(*pack, name) for pack, name in zip(packs, names, strict=True)]
    except FileNotFoundError:
        return [None] if not packs[1:] else [wrong for pack in packs for wrong in _wrong_packs([pack])]


def _wrong_pack(root: Path, path: Path, size: int, name: str) -> str:
    if path != pack_path(root, path.name):
        return "a pack of this name does not belong there"
    if name != path.name:
        return f"its SHA-256 is {name}"
    try:
        if read_pack_header(path).pack_bytes != size:
            return f"its size of {size} bytes differs from the size in its header"
    except CorruptError as error:
        return error.message
    return ""


def check_manifests(
    store: Store,
    manifests: Mapping[str, Manifest],
    *,
    elsewhere: AbstractSet[Digest] = frozenset(),
    here: bool = False,
    advance: Callable[[int], None] = no_progress,
) -> Iterator[Problem]:
    """Check that all tensors that manifests name are available, and that the layouts fit the manifests.

    Args:
        store: The store, with its alternates.
        manifests: Manifests by name, such as ``HEAD:model.safetensors``.
        elsewhere: Digests that a remote has, so that they may be missing in the store.
        here: Whether the store must have these, too.
        advance: Called with the number of tensor bytes dealt with since the last call.
    """
    present = store.present(specs_of(manifests.values()))

    @lru_cache(_LAYOUTS)
    def specs(skeleton: Skeleton, parameters: int) -> Mapping[str, TensorSpec]:
        return read_skeleton(store, skeleton, parameters=parameters).parameters

    for place, manifest in manifests.items():
        absent = {digest for digest, _ in manifest.digests()} - present
        if lost := absent - elsewhere:
            yield Problem("missing", place, f"neither in the store nor on a remote: {_names(manifest, lost)}")
        if here and (left := absent & elsewhere):
            yield Problem("missing", place, f"on a remote, but not in the store: {_names(manifest, left)}")
        if manifest.skeleton.digest in present:
            yield from _check_skeleton(specs, place, manifest)
        advance(sum(nbytes for _, nbytes in manifest.digests()))


def _names(manifest: Manifest, digests: AbstractSet[Digest]) -> str:
    names = [repr(name) for name, parameter in manifest.parameters.items() if parameter.digest in digests]
    if manifest.skeleton.digest in digests:
        names.append("the skeleton")
    return shortlist(names, NAMED)


def _check_skeleton(
    specs: Callable[[Skeleton, int], Mapping[str, TensorSpec]], place: str, manifest: Manifest
) -> Iterator[Problem]:
    try:
        laid_out = specs(manifest.skeleton, len(manifest.parameters))
    except UNREADABLE as error:
        yield Problem("corrupt", place, error.message)
    else:
        if laid_out != {name: parameter.spec for name, parameter in manifest.parameters.items()}:
            yield Problem("corrupt", place, "the manifest's parameters and its layout disagree")


def stored_specs(store: Store) -> dict[Digest, TensorSpec]:
    """Return digest and spec of all entries of all packs with readable headers."""
    specs: dict[Digest, TensorSpec] = {}
    for _, path in store.pack_files():
        with suppress(CorruptError, FileNotFoundError):  # check_packs reports it
            specs.update((entry.digest, entry.spec) for entry in read_pack_header(path).entries)
    return specs


def known_bad(store: Store) -> Iterator[Problem]:
    """Report entries that are recorded as bad, without decoding anything.

    Args:
        store: The store, with its alternates.
    """
    for digest, location in flattened(store.verdicts.bad_here()):
        path = str(pack_path(Path(location.root), location.pack))
        yield Problem("corrupt", f"{digest[:16]} in {path}", str(wrong_tensor(location.pack, digest)), path)


def check_tensors(
    store: Store, wanted: Mapping[Digest, TensorSpec], advance: Callable[[int], None] = no_progress
) -> Iterator[tuple[Digest, Problem]]:
    """Decode all locations of tensors and skeletons, and compare them with their digests.

    Missing tensors are left out, and the bundles that tensors are in are decoded. If a tensor depends on a damaged one,
    only the pack of the latter is reported. A pack whose encoding is not installed does not count as damaged.

    Args:
        store: The store, with its alternates.
        wanted: Digests and specs.
        advance: Called with the number of bytes that were decoded since the last call.
    """
    bundles = {bundle for several in store.index.parts(wanted).values() for bundle, _ in several}
    judged = store.judge_again({*wanted, *bundles}, advance)
    for (digest, location), error in judged.errors.items():
        path = pack_path(Path(location.root), location.pack)
        where = f"{digest[:16]} in {path}"
        if error is None:
            with suppress(MissingError):  # another process made a better pack of it
                spec = store.blob_at(digest, location).entry.spec
                if digest in wanted and spec != wanted[digest]:
                    text = f"stored as {spec}, but a manifest says {wanted[digest]}"
                    yield digest, Problem("corrupt", where, text)
        elif lacks_plugin(error):
            hint = f"; {error.hint}" if isinstance(error, ThetaError) and error.hint else ""
            yield digest, Problem("plug-in", where, f"{error}{hint}")
        elif not isinstance(error, MissingError):  # else another process made a better pack of it
            yield digest, Problem("corrupt", where, str(error), str(path))
    damaged = {digest for digest, _ in judged.bad()}
    for digest, location in judged.stranded:
        where = f"{digest[:16]} in {pack_path(Path(location.root), location.pack)}"
        bases = [base for base in location.bases if base in damaged]
        yield from ((digest, Problem("corrupt", where, f"depends on {base}, which is damaged")) for base in bases)


def users(store: Store, manifests: Mapping[str, Manifest], packs: Collection[str]) -> dict[str, list[str]]:
    """Return what cannot be decoded without some packs.

    Args:
        store: The store, with its alternates.
        manifests: Manifests by name.
        packs: Paths of damaged packs.

    Returns:
        For each of the packs the parameters that have no other location, each with the name of its manifest.
    """
    if not packs:
        return {}
    wanted = set(packs)
    damaged = {(str(root), path.name): str(path) for root, path in store.pack_files() if str(path) in wanted}
    every = with_parts(store.index.all_locations(), store.index.parts(specs_of(manifests.values())))
    left = set(shallowest(filtered(usable(every), lambda _, location: location.pack_id not in damaged)))
    needed = {digest: _damage(digest, every, damaged) for digest in set(every) - left}
    uses: dict[str, list[str]] = {pack: [] for pack in packs}
    for place, manifest in manifests.items():
        named = [("the skeleton", manifest.skeleton.digest)]
        named += [(name, parameter.digest) for name, parameter in manifest.parameters.items()]
        for name, digest in named:
            for pack in needed.get(digest, ()):
                uses[pack].append(f"{place}: {name}")
    return uses


def _damage(digest: Digest, locations: Locations, damaged: Mapping[tuple[str, str], str]) -> set[str]:
    """Return the damaged packs that have a tensor or something that it depends on."""
    behind = closure({digest}, lambda wanted: {d: locations[d] for d in wanted if d in locations})
    packs = pack_ids(behind)
    return {damaged[pack] for pack in packs if pack in damaged}
