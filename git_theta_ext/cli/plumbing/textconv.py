"""Print a version of a checkpoint as text; git runs this.

Git starts it for each version that it shows, so only what a manifest needs is imported for a manifest.
"""

from __future__ import annotations

import os

from git_theta_ext.model.manifest_text import MAGIC, manifest_text

TYPE_CHECKING = False  # importing typing would take as long as a manifest
if TYPE_CHECKING:
    import argparse

EXAMPLE = "git config diff.theta.textconv 'git-theta textconv'"

_MAX_MANIFEST = 1 << 28  # that of model.manifest, whose import takes longer than the text
_STANDARD_OUTPUT = 1


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", help="file with the version")


def run(args: argparse.Namespace) -> int:
    """Print the text of a manifest, or of a checkpoint that is in the work tree or that git itself stored."""
    if not print_manifest(args.file):
        from git_theta_ext.cli.output import output_to_git
        from git_theta_ext.operations.diff.checkpoint_text import checkpoint_text
        from git_theta_ext.operations.workspace import Workspace

        with Workspace.discover(output_to_git(bars=False)) as workspace:
            _write(checkpoint_text(workspace, args.file))
    return 0


def print_manifest(name: str) -> bool:
    """Print the text of a manifest in a file, and return whether it is one."""
    with open(name, "rb") as file:  # noqa: PTH123 - pathlib takes longer to import
        head = file.read(len(MAGIC))
        if head != MAGIC or os.fstat(file.fileno()).st_size > _MAX_MANIFEST:
            return False
        _write(manifest_text(head + file.read()))
    return True


def _write(text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(_STANDARD_OUTPUT, rest) :]
