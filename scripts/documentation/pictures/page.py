"""Take a picture of the heat map of a report with Chromium, and remember of which page it is."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zlib
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

_SIZE, _SCALE = (800, 530), 2
_HIDDEN = re.compile(r'<div class="about">.*?</div>|<p class="filter".*?</p>|<script>.*?</script>', re.DOTALL)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = len(_SIGNATURE) + 25
_KEY = b"Page"


def top(report: str) -> str:
    """Return the page of a report without what is above its heat map: explanations and the filter."""
    return _HIDDEN.sub("", report)


def photograph(page: str) -> bytes | None:
    """Return a PNG of the upper part of a page in light colours; None if there is no Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return None
    with TemporaryDirectory() as folder:
        source, picture = Path(folder) / "page.html", Path(folder) / "page.png"
        source.write_text(page, encoding="utf-8")
        subprocess.run(
            [
                program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={folder}/profile", f"--force-device-scale-factor={_SCALE}",
                f"--window-size={_SIZE[0]},{_SIZE[1]}", f"--screenshot={picture}", source.as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        return with_digest(picture.read_bytes(), page)


def digest(page: str) -> str:
    """Return what tells pictures of different pages, or of different sizes, from each other."""
    return sha256(f"{_SIZE} {_SCALE} {page}".encode()).hexdigest()


def digest_in(picture: bytes) -> str | None:
    """Return the digest of the page that a picture shows, or None if it has none."""
    found = re.search(rb"tEXt" + _KEY + rb"\0([0-9a-f]{64})", picture[_HEADER_END : _HEADER_END + 100])
    return None if found is None else found[1].decode()


def with_digest(picture: bytes, page: str) -> bytes:
    """Put the digest of a page into a PNG, as a text chunk behind the header."""
    body = b"tEXt" + _KEY + b"\0" + digest(page).encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return picture[:_HEADER_END] + chunk + picture[_HEADER_END:]
