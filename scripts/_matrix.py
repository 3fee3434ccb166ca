"""Try the last commit with several versions of Python and git: ``scripts/matrix``.

Each Python gets an environment in ``build/matrix``, with the package as pip builds it, without torch. There,
``scripts/smoke`` and the tests marked ``portable`` run with each git. The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PROJECT = Path(__file__).resolve().parents[1]
PLACE = PROJECT / "build" / "matrix"
VERSIONS = tuple(f"python3.{minor}" for minor in range(10, 16))
MARK = "pytest.mark.portable"
NEEDED = ("hypothesis", "pytest", "pytest-xdist")


def main(argv: Sequence[str] | None = None) -> int:
    """Try all combinations and print a table of them."""
    parser = argparse.ArgumentParser(prog="scripts/matrix", description=__doc__)
    parser.add_argument(
        "--python",
        action="append",
        metavar="PROGRAM",
        help=f"a Python; default: {VERSIONS[0]} and newer on PATH or of pyenv",
    )
    parser.add_argument(
        "--git", action="append", metavar="PROGRAM", help="a git, such as /opt/git-2.31/bin/git; default: that on PATH"
    )
    parser.add_argument("tests", nargs="*", metavar="TEST", help="tests, instead of those marked portable")
    args = parser.parse_args(argv)
    pythons = [found for name in args.python or VERSIONS if (found := _python(name, needed=bool(args.python)))]
    gits = [_git(name, parser) for name in args.git or ["git"]]
    if subprocess.run(["git", "status", "--porcelain"], cwd=PROJECT, capture_output=True, check=True).stdout:
        print("note: changes that are not committed are not tried", file=sys.stderr)
    source = PLACE / "source"
    shutil.rmtree(source, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(source)], check=True)
    results = [
        (_version(python), _version(git), *_tried(environment, git, source, args.tests))
        for python in pythons
        for environment in [_environment(python, source)]
        for git in gits
    ]
    for python, git, failed, seconds in results:
        print(f"{python:16} {git:20} {f'FAILED: {failed}' if failed else 'passed'}, {seconds:.0f} s")
    return int(not results or any(failed for _, _, failed, _ in results))


def _python(name: str, *, needed: bool) -> str | None:
    """Return the path of a Python that can be started. On PATH, pyenv has programs that cannot."""
    folder = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    for found in (shutil.which(name), *sorted(folder.glob(f"*/bin/{name}"))):
        code = "import sys; print(sys.executable)"
        done = found and subprocess.run([found, "-c", code], capture_output=True, text=True, check=False)
        if done and not done.returncode:
            return done.stdout.strip()
    if needed:
        sys.exit(f"error: {name} cannot be started")
    return None


def _git(name: str, parser: argparse.ArgumentParser) -> str:
    found = shutil.which(name)
    if found is None:
        parser.error(f"{name} is no program")
    return found


def _version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _environment(python: str, source: Path) -> Path:
    """Make the environment of a Python, or renew the package in it."""
    place = PLACE / _version(python).replace(" ", "-").lower()
    if not (place / "bin" / "pip").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(place)], check=True)
    shutil.rmtree(source / "build", ignore_errors=True)
    install = [place / "bin" / "pip", "install", "--quiet", "-c", source / "constraints.txt"]
    subprocess.run([*install, source, *NEEDED], check=True)
    return place


def _tried(environment: Path, git: str, source: Path, tests: Sequence[str]) -> tuple[str, float]:
    """Run the smoke test and the tests; return what failed, and the time in seconds."""
    start = time.monotonic()
    variables = dict(_variables(environment, git))
    print(f"\n{_version(str(environment / 'bin' / 'python'))}, {_version(git)}", flush=True)
    commands: dict[str, list[str]] = {
        "smoke": ["scripts/smoke"],
        "tests": ["pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *(tests or _portable(source))],
    }
    failed = [
        name
        for name, command in commands.items()
        if subprocess.run(command, cwd=source, env=variables, check=False).returncode
    ]
    return ", ".join(failed), time.monotonic() - start


def _portable(source: Path) -> list[str]:
    """Return the arguments that select the marked tests; modules without them may need torch to be imported."""
    modules = [path for path in sorted((source / "tests").rglob("test_*.py")) if MARK in path.read_text("utf-8")]
    return ["-m", "portable", *map(str, modules)]


def _variables(environment: Path, git: str) -> Iterator[tuple[str, str]]:
    outer: Mapping[str, str] = os.environ
    yield from ((name, value) for name, value in outer.items() if name not in {"PYTHONPATH", "PYTHONHOME"})
    yield "VIRTUAL_ENV", str(environment)
    yield "PATH", os.pathsep.join([str(environment / "bin"), str(Path(git).parent), outer["PATH"]])


if __name__ == "__main__":
    sys.exit(main())
