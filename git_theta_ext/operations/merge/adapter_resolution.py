"""Keep the configuration of an adapter right while its conflicts are resolved to a side."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, RepositoryError
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.merging.planning.adapter_config import canonical, read_object, taken_config
from git_theta_ext.merging.planning.adapter_meaning import differing_meaning
from git_theta_ext.merging.planning.adapters import scaled_pairs
from git_theta_ext.model.json_text import written_like
from git_theta_ext.model.lora_names import module_of
from git_theta_ext.model.shards import CONFIG
from git_theta_ext.operations.merge.merged_trees import trees_in_progress
from git_theta_ext.operations.merge.model_directories import directories_of
from git_theta_ext.util.files import replace_content, reporting_os_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.merge.adapter_scales import AdapterFiles
    from git_theta_ext.operations.workspace import Workspace

_SIDES = (1, 2, 3)


def take_config(  # noqa: PLR0913, PLR0917 - what a resolution is
    workspace: Workspace,
    path: str,
    config: bytes | None,
    configs: Mapping[str, bytes | None],
    resolved: Manifest,
    names: Collection[str],
    side: str,
) -> None:
    """Write and stage the configuration of an adapter, so that it fits the parameters that are taken from a side.

    Args:
        workspace: The repository and its store.
        path: Path of the adapter.
        config: The configuration in the work tree; None if there is none.
        configs: Name of each side to its configuration; empty if they are unknown.
        resolved: The adapter after its conflicts were resolved.
        names: The parameters that are taken from the side.
        side: The side.
    """
    taken = configs.get(side)
    if not names or config is None or taken == config:
        return
    file = posixpath.join(posixpath.dirname(path), CONFIG)
    shown = workspace.repo.shown(file)
    if taken is None:
        if not configs:
            workspace.reporter.warning(f"{shown} may not fit the parameters of {side}; git does not say which it had")
        return
    try:
        content = _taken(config, taken, resolved, names)
    except MergeError as error:
        workspace.reporter.warning(f"{shown} may not fit the parameters of {side}: {error.message}")
        return
    if content == config:
        return
    full = worktree_of(workspace.repo) / file
    with reporting_os_errors(full):
        replace_content(full, content)
    with suppress(RepositoryError):  # it is ignored
        workspace.repo.run("add", "--", f":(top,literal){file}")
    workspace.reporter.note(f"{shown} is fitted to the parameters of {side}")


def configs_of_sides(
    repo: Repository, path: str, files: AdapterFiles, sides: tuple[str, ...]
) -> dict[str, bytes | None]:
    """Return the configurations of the sides of a conflict by their names; empty if they are unknown.

    Args:
        repo: The repository.
        path: Path of the adapter.
        files: The configurations in the merged commits.
        sides: The names of the sides, without ``base``.
    """
    if len(files.sides) == len(sides):
        return {"base": next(iter(files.ancestors), None), **dict(zip(sides, files.sides, strict=True))}
    stages = unmerged(repo).get(path, {})
    directories = directories_of(repo, trees_in_progress(repo), path, [stages.get(stage) for stage in _SIDES])
    versions = None if directories is None else directories.versions()
    if versions is None or len(versions.sides) != len(sides):
        return {}
    base = None if versions.base is None else versions.base.config
    return {"base": base, **{name: one.config for name, one in zip(sides, versions.sides, strict=True)}}


def _taken(config: bytes, side: bytes, resolved: Manifest, names: Collection[str]) -> bytes:
    current, wanted = read_object(config), read_object(side)
    if not current or canonical(current) == canonical(wanted) or set(names) >= set(resolved.parameters):
        return side
    if wanted.get("peft_type") != "LORA":
        changed = differing_meaning(wanted, current)
        content = {key: value for key, value in current.items() if key not in changed}
        content |= {key: wanted[key] for key in changed if key in wanted}
        return written_like(config.decode(), content).encode() if changed else config
    modules = {factors: module_of(factors[0]) for factors in scaled_pairs(resolved.parameters)}
    taken = [module for factors, module in modules.items() if factors[0] in names or factors[1] in names]
    kept = set(modules.values()) - set(taken)
    return taken_config(config, side, taken, kept) if kept else side
