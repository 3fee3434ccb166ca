"""Check that all that commits and the index name is stored and intact, and that nothing slipped past the filter."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.progress import progress
from git_theta_ext.diff.words import plural
from git_theta_ext.errors import CorruptError, ManifestError, MissingError, ThetaError
from git_theta_ext.git.history import theta_paths_at
from git_theta_ext.git.install import configured
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.remotes import open_remotes
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.state import head_of
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.store.fsck import Problem, check_manifests, check_packs
from git_theta_ext.transfer.remote_index import held, read_remote_index

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.blobs import Store

EXAMPLE = "git theta fsck --decode"

_MENDING = {
    "corrupt": ("damaged packs are of no more use", "delete those files, then git theta checkout --force fetches anew"),
    "missing": ("some tensors are lost here", "git push from a clone that has them, then git theta checkout --force"),
}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--decode", action="store_true", help="decode every tensor too and compare it with its digest")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Check."""
    output = output_of(args)
    repo = Repository.discover()
    store = repo.store()
    manifests, problems = _manifests(repo)
    problems += _raw(repo)
    wanted = output.mode == "human"
    packed = sum(path.stat().st_size for _, path in store.pack_files())
    with progress("checking packs", packed, wanted=wanted) as advance:
        problems += check_packs(store, advance)
    named = sum(p.spec.nbytes for manifest in manifests.values() for p in manifest.parameters.values())
    with progress("checking manifests", named, wanted=wanted) as advance:
        elsewhere = _elsewhere(repo, store, manifests)
        problems += check_manifests(store, manifests, decode=args.decode, elsewhere=elsewhere, advance=advance)
    if problems:
        lines = [f"{problem.kind}: {problem.where}: {problem.what}" for problem in problems]
    else:
        lines = [f"{plural(len(manifests), 'version')} of checkpoints, nothing wrong"]
    output.result({"manifests": len(manifests), "problems": [asdict(problem) for problem in problems]}, lines)
    kinds = {problem.kind for problem in problems}
    for kind in sorted(kinds & set(_MENDING)):
        output.warn(*_MENDING[kind])
    if not kinds:
        return 0
    return MissingError.exit_code if kinds == {"missing"} else CorruptError.exit_code


def _elsewhere(repo: Repository, store: Store, manifests: Mapping[str, Manifest]) -> set[Digest]:
    """Return what remotes hold of the tensors that are not here, as in a clone that never checked out their commit."""
    missing = store.missing(digest for manifest in manifests.values() for digest, _ in manifest.digests())
    found: set[Digest] = set()
    if missing:
        with suppress(ThetaError):  # then all of them count as lost
            for place in open_remotes(repo):
                found |= held(read_remote_index(store, place).headers.values())
    return missing & found


def _manifests(repo: Repository) -> tuple[dict[str, Manifest], list[Problem]]:
    """Return every manifest that a ref, a reflog or the index reaches, by a path and its object id."""
    paths = {}
    lines = repo.run("rev-list", "--objects", "--all", "--reflog", "--indexed-objects")
    for line in lines.decode(errors="surrogateescape").splitlines():
        oid, _, path = line.partition(" ")
        if path:
            paths[oid] = path
    manifests: dict[str, Manifest] = {}
    problems: list[Problem] = []
    for oid, data in manifest_blobs(repo, object_infos(repo, paths)):
        place = f"{paths[oid]} ({oid[:12]})"
        parsed = _parsed(data, place)
        if isinstance(parsed, Manifest):
            manifests[place] = parsed
        else:
            problems.append(parsed)
    return manifests, problems


def _parsed(data: bytes, place: str) -> Manifest | Problem:
    try:
        return Manifest.parse(data)
    except ManifestError as error:
        return Problem("corrupt", place, error.message)


def _raw(repo: Repository) -> list[Problem]:
    """Find checkpoints that the current commit holds as they are, though its attributes ask for a manifest."""
    head = head_of(repo)
    if head is None:
        return []
    files = {entry.path: entry.oid for entry in repo.entries(head) if entry.regular}
    tracked = theta_paths_at(repo, head, files)
    problems = []
    if tracked and not configured(repo):
        problems.append(Problem("config", "filter.theta.process", "not set; git theta install"))
    infos = object_infos(repo, [files[path] for path in tracked])
    manifests = {oid for oid, _ in manifest_blobs(repo, infos)}
    raw = [path for path in tracked if files[path] not in manifests and infos[files[path]].nbytes]
    mend = "git holds the file itself; git theta add it and commit"
    return problems + [Problem("raw", f"HEAD:{path}", mend) for path in raw]
