"""Resolve merge conflicts in checkpoints interactively.

Asks about groups of similar parameters. Also runs as: git mergetool --tool=theta
"""

from __future__ import annotations

import glob
import sys
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.cli.render import mergetool as text
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import CorruptError, MissingError, ThetaError, UsageError
from git_theta_ext.merging.rules.file import parse_override
from git_theta_ext.merging.rules.rules import choice
from git_theta_ext.model.shards import is_text
from git_theta_ext.model.units import one_row
from git_theta_ext.operations.merge.chosen_conflicts import conflicted_units
from git_theta_ext.operations.merge.computation import engine
from git_theta_ext.operations.merge.conflicted_model import find_models, paths_in_conflict
from git_theta_ext.operations.merge.inputs import fetch_values
from git_theta_ext.operations.merge.resolve_preview import moved, preview
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.conflicts import Conflict
    from git_theta_ext.operations.merge.conflicted_model import ConflictedModel
    from git_theta_ext.operations.workspace import Workspace

GROUP = "merge"
EXAMPLE = "git theta mergetool model.safetensors"

PREVIEWED = ("average", "task_arithmetic", "ties", "dare", "consensus_ta", "model_stock")
"""Methods of a preview for which the user names none."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="*", help="checkpoints with conflicts; default: all")
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Ask, and resolve conflicts."""
    repo = workspace.repo
    found = chain.from_iterable(paths_in_conflict(repo, spec) for spec in args.paths or [None])
    paths = [path for path in dict.fromkeys(found) if not is_text(path)]
    if not paths:
        raise UsageError("no checkpoint has conflicts", hint="git theta status")
    left = {}
    for model in find_models(workspace, paths):
        for file in _Session(workspace, output, model).run().chosen:
            manifest = file.manifest
            left[file.path] = len(manifest.conflicts) + (manifest.layout_conflict is not None)
    output.result(
        {"checkpoints": [{"path": path, "conflicts": count} for path, count in left.items()]},
        [
            f"{shown_path(path)}: {plural(count, 'conflict')} left" if count else f"resolved {shown_path(path)}"
            for path, count in left.items()
        ],
    )
    return int(any(left.values()))


class _Session:
    """The dialogue about one model: questions go to stderr, answers come from stdin."""

    def __init__(self, workspace: Workspace, output: Output, model: ConflictedModel) -> None:
        self._workspace = workspace
        self._output = output
        self._model = model
        self._apart: set[str] = set()
        self._units = conflicted_units(model.manifest)
        self._skipped: set[str] = set()
        self._over = False

    def run(self) -> ConflictedModel:
        """Ask until all conflicts are resolved or skipped. Fully resolved checkpoints are written and staged."""
        self._say(text.headline(self._model))
        while not self._over:
            groups = text.groups_of(
                [c for c in self._model.manifest.conflicts if c.name not in self._skipped],
                self._apart,
                self._units,
            )
            if not groups:
                break
            self._ask(*groups[0], len(groups))
        if not self._over and self._model.manifest.layout_conflict is not None and not self._model.manifest.conflicts:
            self._ask_layout()
        self._model.stage(self._workspace)
        return self._model

    def _device(self) -> Device:
        return engine(self._workspace.store, self._workspace.settings.merge_device).device

    def _ask(self, label: str, conflicts: Sequence[Conflict], groups: int) -> None:
        """Ask about a group until it is resolved, skipped or split."""
        measures = None
        quantised = conflicts[0].name in one_row(self._units)  # the distance between integers says nothing
        if not quantised:
            try:
                with self._output.progress("measuring", 0):
                    measures = moved(self._workspace.store, self._device(), conflicts)
            except (MissingError, CorruptError) as error:  # a side can be taken without its values
                self._output.warning(f"cannot measure {label}: {error.message}", error.hint)
        self._say(text.about(label, conflicts, measures, groups))
        before = self._model
        while self._model is before and not self._over:
            answer = self._read(text.question(conflicts[0]))
            try:
                if self._answered(answer, conflicts):
                    return
            except ThetaError as error:
                self._output.error(error)

    def _answered(self, answer: str, conflicts: Sequence[Conflict]) -> bool:
        """Do what an answer says, and return whether the group is finished."""
        word, *words = answer.split() or ["k"]
        names = {conflict.name for conflict in conflicts}
        if word == "q":
            self._over = True
        elif word == "k":
            self._skipped |= names
        elif word == "s":
            self._apart |= names
        elif word == "?":
            self._say(text.HELP)
            return False
        elif word == "p":
            self._preview(conflicts, words)
            return False
        else:
            self._resolve(_choice(text.SHORT.get(word, word), words), conflicts)
        return True

    def _preview(self, conflicts: Sequence[Conflict], words: Sequence[str]) -> None:
        choices = [_choice(words[0], words[1:])] if words else [_choice(name, ()) for name in PREVIEWED]
        values = [value for conflict in conflicts for value in conflict.candidates.values() if value is not None]
        fetch_values(self._workspace, self._model.path, [value.digest for value in values])
        count, previews = preview(self._workspace.store, self._device(), self._model.manifest, conflicts, choices)
        self._say(text.previews(conflicts, count, previews))

    def _resolve(self, method: Choice, conflicts: Sequence[Conflict]) -> None:
        names = [conflict.name for conflict in conflicts]
        everything = len(names) == len(self._model.manifest.conflicts)
        patterns = [] if everything else list(map(glob.escape, names))
        with self._output.progress("merging", 0):
            self._model = self._model.resolved(self._workspace, method, patterns)

    def _ask_layout(self) -> None:
        self._say(text.layout(self._model))
        while self._model.manifest.conflicted and not self._over:
            word = self._read(text.LAYOUT_QUESTION)
            if word in {"", "k", "q"}:
                return
            try:
                self._model = self._model.resolved(self._workspace, _choice(text.SHORT.get(word, word), ()))
            except ThetaError as error:
                self._output.error(error)

    def _read(self, question: str) -> str:
        sys.stderr.write(printable(question))
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:  # standard input is closed
            self._over = True
            self._say("")
        return line.strip()

    def _say(self, words: str) -> None:
        self._output.say(printable(words))


def _choice(method: str, words: Sequence[str]) -> Choice:
    override = parse_override("answer", [f"method={method}", *words])
    return choice(method, override.options, override.weights, origin="answer")
