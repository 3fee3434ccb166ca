"""Make the pictures of the documentation anew, or with ``--check`` say which are stale: ``scripts/pictures``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from documentation.pictures.page import digest, digest_in, photograph
from documentation.pictures.session import Session

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"


def main() -> int:
    """Write or check the pictures."""
    parser = argparse.ArgumentParser(prog="scripts/pictures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a picture is stale")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        session = Session.begin(Path(folder))
        drawings, pages = session.drawings(), session.pages()
    stale = [name for name, drawing in drawings.items() if _text(name) != drawing]
    stale += [name for name, page in pages.items() if digest_in(_bytes(name)) != digest(page)]
    for name in stale:
        print(f"{'stale' if args.check else 'wrote'}: docs/pictures/{name}")
        if args.check:
            continue
        PICTURES.mkdir(exist_ok=True)
        picture = drawings[name].encode() if name in drawings else photograph(pages[name])
        if picture is None:
            print("error: chromium was not found\nhint: apt-get install chromium", file=sys.stderr)
            return 1
        (PICTURES / name).write_bytes(picture)
    if args.check and stale:
        print("hint: scripts/pictures", file=sys.stderr)
    return int(args.check and bool(stale))


def _text(name: str) -> str:
    return _bytes(name).decode()


def _bytes(name: str) -> bytes:
    path = PICTURES / name
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    sys.exit(main())
