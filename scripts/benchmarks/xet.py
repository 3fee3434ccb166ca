"""Put a file into a local Xet store, or get it back: the chunk store of the Hugging Face Hub behind a command.

Usage: xet.py put|get FILE STORE NOTE, where NOTE keeps what the store needs to find the file again.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import hf_xet


def main(action: str, file: str, store: str, note: str) -> None:
    """Put or get."""
    endpoint = f"local://{Path(store).resolve()}"
    warnings.simplefilter("ignore", DeprecationWarning)  # the newer interface wants a session and a repository
    if action == "put":
        Path(store).mkdir(exist_ok=True)
        (sent,) = hf_xet.upload_files([file], endpoint, None, None, None, None)
        Path(note).write_text(json.dumps([sent.hash, sent.filesize]), encoding="utf-8")
    else:
        found, size = json.loads(Path(note).read_text(encoding="utf-8"))
        hf_xet.download_files([hf_xet.PyXetDownloadInfo(file, found, size)], endpoint, None, None, None)


if __name__ == "__main__":
    main(*sys.argv[1:])
