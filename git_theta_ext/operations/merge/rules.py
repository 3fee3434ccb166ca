"""Which rules hold for a merge of git's: of the repository, its settings, the environment and the command line.

Rules are written for merges. If git replays a change (``git_theta_ext.git.operation``), those that take a side or leave
a conflict hold too. Methods of arithmetic then give way to ``theta.merge.replay``, as they would lose a part of the
change, or of what it is applied to. What is asked for in the very command always holds.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.config import FORMER_MERGE_OPTIONS
from git_theta_ext.errors import MergeError, RepositoryError
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.operation import MERGE
from git_theta_ext.git.repository import MERGE_OPTIONS
from git_theta_ext.merging.rules.file import FILE, MOST_BYTES, Override, overridden, parse_override, read_rules
from git_theta_ext.merging.rules.rules import APPLY, DEFAULT_METHOD, Choice, Rule, Rules, choice, is_fixed
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.statistics.sidecar import is_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace

AS_MERGES = "rules"
"""The value of ``theta.merge.replay`` for which replays follow the rules as merges do."""

_SETTINGS = "theta.merge.method and theta.merge.options"
_NO_FILE = f"write the rules into {FILE} itself"


def merge_rules(
    repo: Repository,
    *names: Iterable[str],
    words: Sequence[str] = (),
    operation: Operation = MERGE,
    recorded: Rules | None = None,
) -> Rules:
    """Return the rules for merging a checkpoint.

    Args:
        repo: The repository, whose ``.thetamerge`` counts, and its settings.
        names: Of the checkpoint's parameters.
        words: From the command line; ``GIT_THETA_MERGE`` and the settings yield to them.
        operation: What git is doing.
        recorded: The rules of the merge that is made again; they hold in the place of the file and the settings.

    Raises:
        MergeError: The rules ask for something that does not exist, or one matches nothing in any checkpoint.
        PluginError: A method is not installed.
    """
    settings, given = _settings(repo)
    favoured = [] if operation.favoured is None else [operation.favoured]
    commanded = [
        parse_override(_SETTINGS, given),
        parse_override(MERGE_OPTIONS, os.environ.get(MERGE_OPTIONS, "").split()),
        parse_override("command line", [*favoured, *words]),
    ]
    known = {name for some in names for name in some}
    if operation.kind == "merge" and recorded is None:
        rules = read_rules(_file(repo), [settings, *commanded])
    elif operation.kind == "merge" and recorded is not None:
        rules = overridden(recorded, commanded)
    else:
        rules = overridden(_mapped(read_rules(_file(repo), [settings]), _instead(repo, operation)), commanded)
    idle = [] if recorded is not None else rules.idle(known)
    if idle and (idle := [rule for rule in idle if rule in rules.idle(_all_names(repo))]):
        raise MergeError(
            f"{idle[0].choice.origin}: no parameter of any checkpoint matches {idle[0].match!r}",
            hint=f"git theta ls-files --params lists them; correct {FILE}",
        )
    return _mapped(rules, _mean) if is_statistics(known) else rules


def warn_of_former_settings(workspace: Workspace) -> None:
    """Report a setting that has a new name, if only the old name is set."""
    former = workspace.settings.former_merge_options
    if former:
        hint = f"git config theta.merge.options '{former}'; git config --unset {FORMER_MERGE_OPTIONS}"
        workspace.reporter.warning(f"the setting {FORMER_MERGE_OPTIONS} is now called theta.merge.options", hint)


def _settings(repo: Repository) -> tuple[Override, list[str]]:
    """Return what the configuration asks for, and the words of it that were given with this command (``git -c``)."""
    settings = parse_override(_SETTINGS, repo.config.merge_override)
    if settings == Override(_SETTINGS):
        return settings, []
    asked = ("config", "-z", "--show-scope", "--get-regexp", r"^theta\.merge\.(method|options|with)$")
    fields = repo.run(*asked, check=False).decode(errors="surrogateescape").split("\0")
    given = dict(
        item.split("\n", 1)
        for scope, item in zip(fields[::2], fields[1::2], strict=False)
        if scope == "command" and "\n" in item
    )
    method, options = given.get("theta.merge.method", ""), given.get("theta.merge.options")
    words = given.get(FORMER_MERGE_OPTIONS, "") if options is None else options
    return settings, [*([f"method={method}"] if method else []), *words.split()]


def _instead(repo: Repository, operation: Operation) -> Callable[[Choice], Choice]:
    """Return what stands in the place of a method of arithmetic where git does not merge."""
    asked = (repo.config.merge_replay or APPLY).split()
    if operation.kind == "unknown":
        found = choice("conflict", origin=f"git {operation.name}")
    elif asked == [AS_MERGES]:
        return lambda rule: rule
    else:
        override = parse_override("theta.merge.replay", asked)
        found = choice(override.method or APPLY, override.options, override.weights, origin=f"git {operation.name}")
    return lambda rule: rule if is_fixed(rule.method) else replace(found, rule_index=rule.rule_index)


def _mean(asked: Choice) -> Choice:
    """Let statistics be merged by their mean if the rules ask for a method that is meant for values."""
    if is_fixed(asked.method) or asked.method == APPLY:
        return asked
    origin = asked.origin if asked.explicit else None
    return choice(DEFAULT_METHOD, weights=asked.weights, origin=origin, rule_index=asked.rule_index)


def _mapped(rules: Rules, mapping: Callable[[Choice], Choice]) -> Rules:
    return Rules(mapping(rules.defaults), tuple(Rule(rule.match, mapping(rule.choice)) for rule in rules.rules))


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
