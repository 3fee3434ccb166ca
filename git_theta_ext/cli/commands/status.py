"""Show which parameters changed, and what is pending or not pushed.

Compares the last commit, the index and the work tree. Reads only files that changed since git theta last read them, and
stores nothing.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options, rendered
from git_theta_ext.comparison.schema import to_json
from git_theta_ext.comparison.screen import Screen
from git_theta_ext.comparison.text import render
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import ThetaError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.hooks import hook_present
from git_theta_ext.git.install import configured
from git_theta_ext.git.objects import object_infos
from git_theta_ext.git.pathspecs import present_paths
from git_theta_ext.git.revisions import head_of
from git_theta_ext.git.unattributed import advice, unattributed
from git_theta_ext.operations.filter.pending import read_pending
from git_theta_ext.operations.filter.written_files import finish_written_files
from git_theta_ext.operations.history.model_changes import Models
from git_theta_ext.operations.history.status import in_worktree, unknown_bytes, untracked
from git_theta_ext.operations.history.unpushed import unpushed
from git_theta_ext.operations.sync.path_filter import fetch_filter
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.comparison.changes import ModelChange
    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.history.model_changes import ChangedModel
    from git_theta_ext.operations.workspace import Workspace

GROUP = "daily"
EXAMPLE = "git theta status models/"

_INDENT = "  "
_LISTS = (
    ("conflicted", "In conflict after a merge (git theta resolve PATH):"),
    (
        "one_sided",
        "Deleted or renamed by one side (git theta resolve PATH; git add PATH keeps it, git rm PATH deletes it):",
    ),
    ("pending", "Pending, still manifests (git theta checkout):"),
    (
        "not_fetched",
        "Not fetched, as theta.fetch.include and theta.fetch.exclude say (git theta checkout PATH):",
    ),
    ("raw_in_index", "Stored in git instead of as manifests (git theta add):"),
    ("untracked", "New (git theta add):"),
)


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="*", help="files, directories or quoted patterns; default: all")
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with 1 if a checkpoint is pending or has conflicts"
    )
    parser.add_argument("--files", action="store_true", help="also list the files of models of several files")
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Show the status."""
    repo = workspace.repo
    tracked = present_paths(repo, args.paths)
    paths = theta_paths(repo.run, tracked)
    with suppress(ThetaError):  # git status stays wrong until the next command tries again
        finish_written_files(workspace)
    head = head_of(repo)
    at_head = repo.manifests(head) if head else {}
    in_index = repo.manifests(None, at_head.values())
    committed = {path: manifest for path, (_, manifest) in at_head.items()}
    index = {path: manifest for path, (_, manifest) in in_index.items()}
    with output.progress("reading", unknown_bytes(workspace, paths)) as advance:
        files = in_worktree(workspace, paths, advance, dict(in_index.values()))
    # A path in conflict has several versions in the index, and none to compare with.
    entries = repo.entries(None)
    unmerged = {entry.path for entry in entries if entry.stage}
    compared = (set(tracked) if args.paths else {*committed, *index}) - unmerged
    new = untracked(repo)
    models = Models.of(repo, {*compared, *files, *new})
    staged = models.changed(committed, {path: index.get(path) for path in compared})
    stored_by_git = {path for path, file in files.items() if file.kind == "empty" and path not in index}
    links = {path for path, file in files.items() if file.kind == "link" and path not in index}
    left_out = {*unmerged, *stored_by_git, *links}
    present = {path: file.manifest for path, file in files.items() if path not in left_out}
    changed = models.changed(index, present)
    pending = sorted({*read_pending(repo), *(path for path, file in files.items() if file.kind == "manifest")})
    in_place = ((path, file.manifest) for path, file in files.items() if file.kind == "manifest" and file.manifest)
    not_fetched = set(fetch_filter(repo).left_out(workspace.store, in_place))
    stages = {(entry.path, entry.stage) for entry in entries}
    both_sides = {path for path in unmerged if {(path, 2), (path, 3)} <= stages}
    manifests = {path for path, file in files.items() if file.manifest and file.manifest.conflicted}
    conflicted = sorted(manifests | (both_sides & set(paths)))
    pushed = unpushed(workspace)
    without = unattributed(repo, [path for path in index if path in set(tracked)])
    data: dict[str, Any] = {
        "head": head,
        "staged": [to_json(change) for change in _by_path(staged)],
        "staged_models": [to_json(change) for model in staged for change in model.changes],
        "not_staged": [to_json(change) for change in _by_path(changed)],
        "not_staged_models": [to_json(change) for model in changed for change in model.changes],
        "untracked": new,
        "pending": [path for path in pending if path not in {*conflicted, *not_fetched}],
        "not_fetched": sorted(not_fetched.difference(conflicted)),
        "conflicted": conflicted,
        "one_sided": sorted((unmerged & set(paths)).difference(conflicted)),
        "raw_in_index": _raw(repo, [e for e in entries if e.path in paths and e.path not in index]),
        "not_pushed": None if pushed is None else {**vars(pushed)},
        "without_attribute": without,
        "filter_configured": configured(repo),
        "pre_push_hook": hook_present(repo),
    }
    listing = _Listing(output, repo, models, files=args.files)
    output.result(data, listing.lines(data, (staged, changed), entries, tracked=bool(paths or index)))
    if without:
        output.warning(*advice(repo, without))
    if paths and not data["filter_configured"]:
        output.warning("git is not configured to use git theta and would store models itself", "git theta install")
    elif paths and not data["pre_push_hook"]:
        output.warning("pushes do not upload parameters: no pre-push hook calls git theta", "git theta install --local")
    return int(args.exit_code and bool(data["pending"] or data["conflicted"]))


def _raw(repo: Repository, entries: Sequence[TreeEntry]) -> list[str]:
    """Return the paths whose content is stored in git itself. ``git add -N`` makes entries that are empty."""
    infos = object_infos(repo, [entry.oid for entry in entries if entry.regular and not entry.stage])
    return [entry.path for entry in entries if entry.oid in infos and infos[entry.oid].nbytes]


def _by_path(models: Sequence[ChangedModel]) -> list[ModelChange]:
    return sorted((change for model in models for change in model.files), key=lambda change: change.path)


@dataclass(frozen=True)
class _Listing:
    """Writes the status for people, with paths relative to the current directory, as ``git status`` shows them."""

    output: Output
    repo: Repository
    models: Models
    files: bool

    def lines(
        self,
        data: Mapping[str, Any],
        changed: tuple[Sequence[ChangedModel], Sequence[ChangedModel]],
        entries: Sequence[TreeEntry],
        *,
        tracked: bool,
    ) -> Iterator[str]:
        """Yield the status."""
        clean = True
        titles = ("Staged for the next commit:", "Changed, not staged (git theta add):")
        for title, models in zip(titles, changed, strict=True):
            if models:
                clean = False
                yield self.output.styled(title, "bold")
            for model in models:
                yield from self._model(model)
        for key, title in _LISTS:
            if data[key]:
                clean = False
                yield self.output.styled(title, "bold")
                yield from self._paths(data[key])
        pushed = data["not_pushed"]
        if pushed and pushed["versions"]:
            clean = False
            versions, tensors = plural(pushed["versions"], "version"), plural(pushed["tensors"], "tensor")
            where = "on no remote" if pushed["nowhere"] else f"not on {pushed['remote']}"
            yield self.output.styled("Not pushed (git push):", "bold")
            yield f"  {versions} of checkpoints with {tensors} that are {where}, as of the last fetch or push"
        if clean and not tracked:
            yield from self._without_checkpoints(entries)
        elif clean:
            yield "nothing changed and nothing is pending"

    def _without_checkpoints(self, entries: Sequence[TreeEntry]) -> Iterator[str]:
        from git_theta_ext.operations.health.submodules import has_models, submodules  # seldom needed

        found = list(submodules(self.repo, entries))
        yield from (f"{each.text}: {each.command}" for each in found)
        if not has_models(found):
            yield "there is no checkpoint here yet; git theta track PATTERN, then git theta add PATH"

    def _model(self, model: ChangedModel) -> Iterator[str]:
        width = shutil.get_terminal_size().columns - len(_INDENT) if sys.stdout.isatty() else 0
        screen = Screen(width, self.output.color)
        for change in model.changes:
            yield from (rendered(_INDENT + line) for line in render(self._named(change), screen).splitlines())
        for change in model.files if self.files and model.whole is not None else ():
            summary = render(self._named(change), Screen()).splitlines()[1]
            yield f"    {self.repo.shown(change.path)}: {summary}"

    def _named(self, change: ModelChange) -> ModelChange:
        return replace(change, path=self.repo.relative(change.path))

    def _paths(self, paths: Sequence[str]) -> Iterator[str]:
        for name, files in self.models.names(paths).items():
            count = f" ({len(files)} files)" if len(files) > 1 else ""
            yield f"  {self.repo.shown(name)}{count}"
            if count and self.files:
                yield from (f"    {self.repo.shown(path)}" for path in files)
