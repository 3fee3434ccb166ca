"""Put a file into a local Xet store, the chunk store of the Hugging Face Hub, or get it back.

Usage: xet.py put|get FILE STORE NOTE. NOTE is a file with the key of FILE in the store.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import hf_xet


def main(action: str, file: str, store: str, note: str) -> None:
    """Put a file into the store, or get it."""
    endpoint = f"local://{Path(store).resolve()}"
    warnings.simplefilter("ignore", DeprecationWarning)  # the newer interface requires a session and a repository
    if action == "put":
        Path(store).mkdir(exist_ok=True)
        (sent,) = hf_xet.upload_files([file], endpoint, None, None, None, None)
        Path(note).write_text(json.dumps([sent.hash, sent.filesize]), encoding="utf-8")
    else:
        key, size = json.loads(Path(note).read_text(encoding="utf-8"))
        hf_xet.download_files([hf_xet.PyXetDownloadInfo(file, key, size)], endpoint, None, None, None)


if __name__ == "__main__":
    main(*sys.argv[1:])
