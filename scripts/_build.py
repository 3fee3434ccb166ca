"""Build the source distribution of a directory, and the wheel from it, with the same bytes in every directory.

``python scripts/_build.py SOURCE FOLDER``, in an environment with setuptools and with ``SOURCE_DATE_EPOCH`` set, writes
both to FOLDER. The version of setuptools, Python and the C compiler change the bytes; nothing else does.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

_BACKEND = "import sys, setuptools.build_meta as backend; print(getattr(backend, sys.argv[1])(sys.argv[2]))"


def build(source: Path, folder: Path, epoch: int) -> tuple[Path, Path]:
    """Return the source distribution and the wheel.

    Args:
        source: What to build. It gets setuptools' usual build files.
        folder: Where to put both.
        epoch: The date of all files in them, in seconds since 1970.

    Raises:
        subprocess.CalledProcessError: setuptools failed.
    """
    sdist = _run("build_sdist", source, folder, epoch)
    repack(sdist, epoch)
    with TemporaryDirectory() as place:
        with tarfile.open(sdist) as archive:
            archive.extractall(place, filter="data")
        (unpacked,) = Path(place).iterdir()
        return sdist, _run("build_wheel", unpacked, folder, epoch)


def repack(sdist: Path, epoch: int) -> None:
    """Sort the members of a ``.tar.gz``, and give all of them one date, no owner, and modes that no umask changes."""
    packed = io.BytesIO()
    with (
        tarfile.open(sdist) as old,
        gzip.GzipFile("", "wb", mtime=epoch, fileobj=packed) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            executable = member.isdir() or member.mode & 0o100
            plain = member.replace(
                mtime=epoch, mode=0o755 if executable else 0o644, uid=0, gid=0, uname="", gname="", deep=False
            )
            plain.pax_headers = {}
            new.addfile(plain, old.extractfile(member))
    sdist.write_bytes(packed.getvalue())


def _run(hook: str, source: Path, folder: Path, epoch: int) -> Path:
    """Call a hook of setuptools, and return the file that it built."""
    command = [sys.executable, "-c", _BACKEND, hook, str(folder.resolve())]
    done = subprocess.run(
        command, cwd=source, env=_environment(epoch), umask=0o022, stdout=subprocess.PIPE, text=True, check=True
    )
    return folder / done.stdout.splitlines()[-1]


def _environment(epoch: int) -> dict[str, str]:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    more = {"CFLAGS": "-g0"}  # debug information names directories
    if sys.platform == "linux":
        # Some builds of Python pass a search path for libraries of their own here.
        environment.setdefault("LDSHARED", f"{os.environ.get('CC', 'gcc')} -shared")
        # auditwheel needs to see which C library the kernels are linked to, although they call nothing in it.
        more["LDFLAGS"] = "-Wl,--no-as-needed"
    return environment | {name: f"{os.environ.get(name, '')} {flag}".strip() for name, flag in more.items()}


if __name__ == "__main__":
    for built in build(Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["SOURCE_DATE_EPOCH"])):
        print(built)
