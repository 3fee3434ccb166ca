"""Run one tutorial and say where it is not as its page says."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tutorial_runner import notebook
from tutorial_runner.compare import same
from tutorial_runner.page import read
from tutorial_runner.servers import SERVERS
from tutorial_runner.shell import Failure, run

if TYPE_CHECKING:
    from collections.abc import Iterable

NOTEBOOK = ".ipynb"
PAGES = Path(__file__).parents[2] / "docs" / "tutorials"


class TutorialError(Exception):
    """A command of a tutorial failed."""


def missing(path: Path) -> list[str]:
    """Return what a tutorial needs and is not installed."""
    needs = notebook.NEEDS if path.suffix == NOTEBOOK else read(path.read_text("utf-8")).needs
    return [name for name in needs if shutil.which(name) is None and importlib.util.find_spec(name) is None]


def renewed(path: Path, folder: Path) -> str:
    """Run a tutorial and return its text, in which outputs that differ are as they were printed.

    Args:
        path: The page.
        folder: An empty directory for all that the run leaves.

    Raises:
        TutorialError: A command failed; the message has its line in the page and what it printed.
    """
    if path.suffix == NOTEBOOK:
        return notebook.renewed(path, folder)
    page = read(path.read_text("utf-8"))
    home = folder / "home"
    home.mkdir()
    with ExitStack() as stack:
        stands = [stack.enter_context(SERVERS[name](folder / name)) for name in page.servers]
        variables = {name: value for stand in stands for name, value in stand.variables.items()}
        shown = {text: name for stand in stands for text, name in stand.shown.items()}
        done = run(page, home, variables, shown)
    if isinstance(done, Failure):
        raise TutorialError(
            f"{path}:{done.step.line}: exit status {done.status} instead of {done.step.status} of\n"
            f"{done.step.script}\n-- printed:\n{done.printed}"
        )
    differs = {
        step: lines for step, lines in done.items() if step.shown is not None and not same(page.output(step), lines)
    }
    return page.with_outputs(differs)


def pages(names: Iterable[str] = ()) -> list[Path]:
    """Return the paths of the tutorials and notebooks with these names, or of all."""
    every = sorted(path for path in PAGES.iterdir() if path.suffix in {".md", NOTEBOOK} and path.stem != "index")
    return [path for path in every if not names or path.stem in names]
