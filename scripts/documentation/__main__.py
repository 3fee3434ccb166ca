"""Write what is generated, or with ``--check`` say what is stale, and check all links: ``scripts/docs``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from documentation import bash, fish, links, man, tables, zsh
from git_theta_ext.errors import ThetaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROJECT = Path(__file__).parents[2]
MANUAL = "docs/man"
FILES: dict[str, Callable[[], str]] = {
    "docs/completion/git-theta": bash.script,
    "docs/completion/_git-theta": zsh.script,
    "docs/completion/git-theta.fish": fish.script,
    "docs/completion/conf.d/git-theta.fish": fish.script_of_git,
}


def generated() -> dict[Path, str]:
    """Return every file that is generated, or has generated parts, and what it should hold."""
    files = {PROJECT / name: make() for name, make in FILES.items()}
    files |= {PROJECT / MANUAL / name: text for name, text in man.pages().items()}
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    return files | {page: _page(page) for page in pages}


def _page(path: Path) -> str:
    try:
        return tables.filled(path.read_text(encoding="utf-8"))
    except UsageError as error:
        raise UsageError(f"{path.relative_to(PROJECT)} {error.message}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(prog="scripts/docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    args = parser.parse_args(argv)
    try:
        files = generated()
    except ThetaError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    stale = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        print(f"{'stale' if args.check else 'wrote'}: {path.relative_to(PROJECT)}")
        if not args.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    for path in (left := sorted(set((PROJECT / MANUAL).glob("*")) - set(files))):
        print(f"{'left over' if args.check else 'removed'}: {path.relative_to(PROJECT)}")
        if not args.check:
            path.unlink()
    stale += left
    if args.check and stale:
        print("hint: scripts/docs", file=sys.stderr)
    lost = list(links.broken(_pages()))
    for problem in lost:
        print(problem)
    return int((args.check and bool(stale)) or bool(lost))


def _pages() -> list[Path]:
    return [*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").rglob("*.md"))]


if __name__ == "__main__":
    sys.exit(main())
