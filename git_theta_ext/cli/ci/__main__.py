"""Check the models of a commit, and report on them as Markdown: in a file, and on the pull request.

``key`` prints the key of a cache, which changes with the models alone. ``report`` checks that git stores no checkpoint
itself in HEAD or in a commit of the change, compares with the commit that the pull request started from, and comments.
Its exit code is that of ``git theta fsck --raw`` if that finds a checkpoint, and else that of ``git theta diff``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.ci.job import job_of
from git_theta_ext.errors import CorruptError, RemoteError, RepositoryError, ThetaError
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.cli.ci.job import Job

_UNCHANGED = "No parameters changed."
_NO_HISTORY = "check out the whole history: fetch-depth: 0 for actions/checkout, GIT_DEPTH: 0 on GitLab"


def main(args: Sequence[str] | None = None) -> int:
    """Run one of the two steps; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m git_theta_ext.cli.ci", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("step", choices=("key", "report"))
    parser.add_argument("--base", metavar="REV", help="commit to compare with; default: where the pull request started")
    parser.add_argument(
        "--remote", default="origin", metavar="REMOTE", help="where to fetch parameters; default: origin"
    )
    parser.add_argument(
        "--fail-if", default="", metavar="LIMITS", help="as for git theta diff; one a line, or between ;"
    )
    parser.add_argument("--summary", metavar="FILE", help="file to which the report is appended")
    words = parser.parse_args(args)
    try:
        job = job_of(os.environ)
        base = _base(words.base, job)
        if words.step == "key":
            sys.stdout.write(f"{_key([*([base] if base else []), 'HEAD'])}\n")
            return 0
        return _report(job, base, words)
    except ThetaError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code


def _base(chosen: str | None, job: Job) -> str | None:
    """Return the commit where the change began; None if there is nothing to compare with.

    What a forced push replaced is not in a clone. Nor is the history in a shallow one, which is an error.
    """
    if (name := chosen or job.base) is None:
        return None
    done = _run("merge-base", name, "HEAD")
    if not done.returncode:
        return done.stdout.strip()
    if chosen or job.in_request or _run("rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        raise RepositoryError(f"HEAD and {name} have no common commit here", hint=_NO_HISTORY)
    sys.stderr.write(f"note: {name} is not here, so nothing is compared\n")
    return None


def _key(revs: Sequence[str]) -> str:
    repo = Repository.discover()
    oids = sorted({oid for rev in revs for oid, _ in repo.manifests(rev).values()})
    return hashlib.sha256("\n".join(oids).encode()).hexdigest()[:16]


def _report(job: Job, base: str | None, words: argparse.Namespace) -> int:
    # A checkpoint that a later commit of the change deletes stays in the history.
    raw = _run("theta", "fsck", "--raw", *([f"{base}..HEAD"] if base else []), "HEAD")
    sys.stderr.write(raw.stderr)
    if raw.returncode not in {0, CorruptError.exit_code}:
        return raw.returncode
    parts, code = [], raw.returncode
    if code:
        parts.append(f"Git stores checkpoints itself:\n\n{_block(raw.stdout)}")
    quiet = not code
    if base is not None:
        compared = _compare(base, words)
        table = compared.stdout.strip()
        if compared.returncode:
            parts.append(f"The change did not pass:\n\n{_block(compared.stderr)}")
        parts.append(table)
        code, quiet = code or compared.returncode, quiet and table == _UNCHANGED
    text = "\n\n".join(filter(None, parts or ["Git stores no checkpoint itself."])) + "\n"
    sys.stdout.write(text)
    if words.summary:
        with Path(words.summary).open("a", encoding="utf-8") as file:
            file.write(text)
    if job.discussion is not None:
        try:
            job.discussion.post(text, only_edit=quiet)
        except RemoteError as error:  # the token of a pull request from a fork cannot write
            sys.stderr.write(f"warning: no comment: {error.message}\nhint: {error.hint}\n")
    return code


def _compare(base: str, words: argparse.Namespace) -> subprocess.CompletedProcess[str]:
    """Fetch the values of both versions and compare them."""
    limits = [limit.strip() for line in words.fail_if.splitlines() for limit in line.split(";")]
    options = [word for limit in limits if limit for word in ("--fail-if", limit)]
    done = _run("theta", "fetch", words.remote, base, "HEAD")
    sys.stderr.write(done.stderr)
    if not done.returncode:
        done = _run("theta", "diff", base, "HEAD", "--markdown", *options)
        sys.stderr.write(done.stderr)
    return done


def _block(text: str) -> str:
    """Return text as a block of code, whatever backticks it has."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=2))
    return f"{fence}text\n{text.strip()}\n{fence}"


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *args], capture_output=True, text=True, encoding="utf-8", errors="backslashreplace", check=False
    )


if __name__ == "__main__":
    sys.exit(main())
