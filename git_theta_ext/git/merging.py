"""What merges of checkpoints need of the repository: its rules, its device, and a place to remember results."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.diff.words import human_bytes, plural
from git_theta_ext.errors import MergeError, RepositoryError, ThetaError
from git_theta_ext.git.adapters import with_adapter_scales
from git_theta_ext.git.fetch import ensure_digests
from git_theta_ext.git.notes import complain
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.statistics import outdated, statistics_beside
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.plan import plan as plan_merge
from git_theta_ext.merging.rules import DEFAULT_METHOD, Rule, Rules, choice, is_fixed
from git_theta_ext.merging.rules_file import FILE, MOST_BYTES, parse_override, read_rules
from git_theta_ext.merging.tasks import digests_of, tasks_of
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.stats.sidecar import is_statistics
from git_theta_ext.store.pool import LARGEST_KEPT, keep_freed_memory, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.apply import Outcome
    from git_theta_ext.merging.budget import Budget
    from git_theta_ext.merging.engine import Engine
    from git_theta_ext.merging.journal import Journal
    from git_theta_ext.merging.plan import Plan
    from git_theta_ext.merging.rules import Choice
    from git_theta_ext.merging.tasks import Statistics
    from git_theta_ext.store.blobs import Store

ENVIRONMENT = "GIT_THETA_MERGE"
"""Words that override the rules: a method, and options as ``NAME=VALUE``."""

_NO_FILE = f"write the rules into {FILE} itself"


def merge_rules(repo: Repository, *names: Iterable[str], words: Sequence[str] = ()) -> Rules:
    """Return the rules for merging a checkpoint.

    Args:
        repo: The repository, whose ``.thetamerge`` counts, and its settings.
        names: Of the checkpoint's parameters.
        words: From the command line; ``GIT_THETA_MERGE`` and the settings yield to them.

    Raises:
        MergeError: The rules ask for something that does not exist, or one matches nothing in any checkpoint.
        PluginError: A method is not installed.
    """
    overrides = [
        parse_override("theta.merge.method and theta.merge.with", repo.config.merge_override),
        parse_override(ENVIRONMENT, os.environ.get(ENVIRONMENT, "").split()),
        parse_override("command line", words),
    ]
    rules = read_rules(_file(repo), overrides)
    known = {name for some in names for name in some}
    idle = rules.idle(known)
    if idle and (idle := [rule for rule in idle if rule in rules.idle(_all_names(repo))]):
        raise MergeError(
            f"{idle[0].choice.origin}: no parameter of any checkpoint matches {idle[0].match!r}",
            hint=f"git theta ls-files -l lists them; mend {FILE}",
        )
    return _for_statistics(rules) if is_statistics(known) else rules


def _for_statistics(rules: Rules) -> Rules:
    """Let statistics be merged by their mean, where the rules ask for a method that is meant for values."""

    def mean(asked: Choice) -> Choice:
        if is_fixed(asked.method):
            return asked
        return choice(DEFAULT_METHOD, weights=asked.weights, origin=asked.origin, number=asked.number)

    return Rules(mean(rules.defaults), tuple(Rule(rule.match, mean(rule.choice)) for rule in rules.rules))


def _file(repo: Repository) -> bytes | None:
    """Return the rules as they are in the work tree, or else in the current commit."""
    if repo.worktree is not None:
        path = repo.worktree / FILE
        try:
            if not stat.S_ISREG(path.lstat().st_mode):  # a link could lead anywhere; git follows none to .gitattributes
                raise MergeError(f"{FILE} is no regular file", hint=_NO_FILE)
            with path.open("rb") as file:
                return file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RepositoryError(f"cannot read {FILE}: {error.strerror}") from error
    mode = repo.run("ls-tree", "--full-tree", "--end-of-options", "HEAD", FILE, check=False).partition(b" ")[0]
    if mode in (b"120000", b"040000", b"160000"):
        raise MergeError(f"{FILE} is no regular file in the current commit", hint=_NO_FILE)
    return repo.run("cat-file", "blob", f"HEAD:{FILE}") if mode else None


def _all_names(repo: Repository) -> set[str]:
    """Return the names of the parameters of all checkpoints in the current commit."""
    oids = {entry.oid for entry in repo.entries("HEAD") if entry.regular}
    found: set[str] = set()
    for _, data in manifest_blobs(repo, object_infos(repo, oids)):
        found.update(Manifest.parse(data).parameters)
    return found


def bytes_to_compute(plan: Plan) -> int:
    """Return the bytes of all results that a plan asks for."""
    return sum(d.value.spec.nbytes for d in plan.decisions if d.action == "compute" and d.value is not None)


def announcement(budget: Budget) -> str:
    """Tell what a merge computes and what memory that needs, in one line."""
    names = list(dict.fromkeys(name for name, _ in budget.peaks))
    most = human_bytes(max((nbytes for _, nbytes in budget.peaks), default=0))
    text = f"merging {plural(budget.parameters, 'parameter')} ({human_bytes(budget.reads)} to read)"
    text += f" by {_listed(budget.methods)} on {_listed(names)}, at most {most} of memory"
    text += " there each" if len(names) > 1 else ""
    return text + (f"; {len(budget.spilled)} on cpu for want of memory elsewhere" if budget.spilled else "")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def merge(  # noqa: PLR0913, PLR0917 - all that a merge needs
    repo: Repository,
    store: Store,
    plan: Plan,
    path: str,
    advance: Callable[[int], None],
    commits: Sequence[str],
) -> Outcome:
    """Carry out a plan on the devices that ``theta.merge.device`` names, going on where a merge that was killed was.

    What it is going to compute is told on stderr before.

    Args:
        repo: The repository.
        store: Its store.
        plan: What to do.
        path: Of the checkpoint.
        advance: Told the number of bytes of each tensor that is done.
        commits: Of each side, beside whose checkpoints statistics may lie.

    Raises:
        ConfigError: There is no such device.
        ThetaError: As ``git_theta_ext.merging.apply.apply``.
    """
    from git_theta_ext.merging.journal import Journal

    def announce(budget: Budget) -> None:
        complain(f"{path}: {announcement(budget)}")

    plan = with_adapter_scales(repo, store, plan, path, commits)
    statistics, notes = statistics_for(repo, store, plan, path, commits)
    journal = Journal(_journal(repo, path))
    outcome = apply(plan, store, lambda: engine(repo, store, journal, statistics, advance, announce))
    journal.done()
    return replace(outcome, notes=(*outcome.notes, *notes))


def planned(base: Manifest | None, sides: Sequence[Manifest], rules: Rules) -> Plan:
    """Plan a merge of git's; statistics that several sides added are merged, for they have no common ancestor.

    Raises:
        MergeError: A rule that is needed has weights for another number of sides.
        PluginError: There is no such format.
    """
    return plan_merge(base, sides, rules, baseless=all(is_statistics(side.parameters) for side in sides))


def engine(  # noqa: PLR0913, PLR0917 - as Engine
    repo: Repository,
    store: Store,
    journal: Journal | None = None,
    statistics: Statistics | None = None,
    advance: Callable[[int], None] = no_progress,
    announce: Callable[[Budget], None] | None = None,
) -> Engine:
    """Return what computes on the devices that ``theta.merge.device`` names.

    Raises:
        ConfigError: There is no such device.
    """
    from git_theta_ext.merging.device import open_devices
    from git_theta_ext.merging.engine import Engine

    keep_freed_memory(LARGEST_KEPT)
    devices = open_devices(repo.config.merge_device)
    return Engine(store, devices, journal, statistics, advance, announce=announce)


def statistics_for(
    repo: Repository, store: Store, plan: Plan, path: str, commits: Sequence[str]
) -> tuple[Statistics, list[str]]:
    """Find the statistics that a plan's methods need, fetched as far as a remote has them.

    Args:
        repo: The repository.
        store: Its store.
        plan: What is merged.
        path: Of the checkpoint.
        commits: Of each side, beside whose checkpoints statistics may lie.

    Returns:
        The statistics, and what the user should know of them.
    """
    beside = statistics_beside(repo, plan, path, commits)
    if not beside:
        return {}, []
    found = {number: manifest.parameters for number, manifest in beside.items()}
    with suppress(ThetaError):  # what cannot be had ends as a conflict that says so
        ensure_digests(repo, store, digests_of(tasks_of(plan.decisions, found)))
    return found, outdated(repo, store, plan, beside)


def _journal(repo: Repository, path: str) -> Path:
    from blake3 import blake3

    return repo.git_dir / "theta" / "merging" / blake3(os.fsencode(path)).hexdigest()[:32]
