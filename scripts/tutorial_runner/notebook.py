"""Run a notebook in a kernel, and compare the outputs of its cells with those that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tutorial_runner.compare import same
from tutorial_runner.shell import environment

if TYPE_CHECKING:
    from pathlib import Path

NEEDS = ("nbclient", "ipykernel", "pandas")


def renewed(path: Path, folder: Path) -> str:
    """Run a notebook and return its text, in which outputs that differ are as they were printed.

    Args:
        path: The notebook.
        folder: An empty directory for all that the run leaves.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    home = folder / "home"
    home.mkdir()
    text = path.read_text("utf-8")
    notebook = nbformat.reads(text, as_version=4)
    before = [_shown(cell) for cell in notebook.cells]
    kept = [cell.get("outputs") for cell in notebook.cells]
    variables = {**environment(home, {}), "IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(folder)}
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(home)}})
    client.execute(env=variables, cleanup_kc=True)
    for cell, old, outputs in zip(notebook.cells, before, kept, strict=True):
        cell.metadata.pop("execution", None)  # the times
        if outputs is not None and same(old, _shown(cell)):
            cell.outputs = outputs
    written = nbformat.writes(notebook)
    return written if written.endswith("\n") else written + "\n"


def _shown(cell: Any) -> list[str]:
    """Return the lines that the outputs of a cell show as text."""
    texts = [
        output["text"] if output.output_type == "stream" else output.get("data", {}).get("text/plain", "")
        for output in cell.get("outputs", ())
    ]
    return [line.rstrip() for text in texts for line in text.splitlines()]
