"""Run tutorials and say what differs, or with ``--update`` renew the outputs in their pages: ``scripts/tutorials``."""

from __future__ import annotations

import argparse
import difflib
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tutorial_runner.tutorial import TutorialError, missing, pages, renewed

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tutorials."""
    parser = argparse.ArgumentParser(prog="scripts/tutorials", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="tutorials, such as first-model; default: all")
    parser.add_argument("--update", action="store_true", help="write what commands print to the pages")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - {path.stem for path in pages()}:
        parser.error(f"no tutorial {', '.join(sorted(unknown))}; there are {', '.join(path.stem for path in pages())}")
    return max((_tried(path, args.update) for path in pages(args.names)), default=0)


def _tried(path: Path, update: bool) -> int:  # noqa: FBT001 - an option of the command
    if lacking := missing(path):
        print(f"skipped: {path.stem} needs {', '.join(lacking)}")
        return 0
    before, start = path.read_text("utf-8"), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            after = renewed(path, Path(folder))
        except TutorialError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(f"{'same' if after == before else 'differs'}: {path.stem}, {time.monotonic() - start:.1f} s")
    if after != before and update:
        path.write_text(after, "utf-8")
    elif after != before:
        print(*difflib.unified_diff(before.splitlines(), after.splitlines(), "page", "printed", lineterm=""), sep="\n")
    return int(after != before and not update)


if __name__ == "__main__":
    sys.exit(main())
