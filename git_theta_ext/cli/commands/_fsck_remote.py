"""The part of ``git theta fsck`` that checks a remote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.operations.sync.remote_check import check_remote
from git_theta_ext.operations.sync.remotes import local_path
from git_theta_ext.util.quoting import shell_word, shown_path

if TYPE_CHECKING:
    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.sync.remote_check import Lacking
    from git_theta_ext.operations.workspace import Workspace


def check(output: Output, workspace: Workspace, name: str | None, *, full: bool) -> int:
    """Report what a remote lacks, by path and version; return the exit code."""
    with output.progress("comparing packs", 0) as advance:
        remotes, versions, problems = check_remote(workspace, name, full=full, advance=advance)
    data = {
        "remotes": [{"name": remote.name, "url": remote.url} for remote in remotes],
        "versions": versions,
        "problems": [_data(lacking) for lacking in problems],
    }
    where = ", ".join(f"{remote.name} ({remote.url})" for remote in remotes)
    good = f"{plural(versions, 'version')} of checkpoints; {where} has everything"
    output.result(data, [_line(lacking) for lacking in problems] or [good])
    damaged = {lacking.remote.url: lacking.remote for lacking in problems if lacking.damaged}
    for url, remote in damaged.items():
        local = local_path(url) is not None
        again = f"git theta push --all {shell_word(remote.name)}"
        hint = f"run git theta fsck --full --repair in {shell_word(url)}" if local else again
        output.warning(f"{remote.name} has damaged packs", hint)
    if any(lacking.parameters > lacking.damaged or not lacking.parameters for lacking in problems):
        command = f"git theta push --all {shell_word(problems[0].remote.name)}"
        if any(lacking.lost for lacking in problems):
            output.warning(
                "some parameters are neither here nor on a remote", f"run {command} in a clone that has them"
            )
        else:
            output.warning(f"{problems[0].remote.name} lacks parameters that branches or tags need", command)
    if not problems:
        return 0
    return CorruptError.exit_code if damaged else MissingError.exit_code


def _data(lacking: Lacking) -> dict[str, object]:
    return {
        "url": lacking.remote.url,
        "path": lacking.version.path,
        "commit": lacking.version.commit,
        "parameters": lacking.parameters,
        "of": len(lacking.version.manifest.parameters),
        "damaged": lacking.damaged,
        "lost": lacking.lost,
    }


def _line(lacking: Lacking) -> str:
    version = lacking.version
    commit = version.commit[:12] if version.commit else "staged"
    what = f"{lacking.parameters} of {plural(len(version.manifest.parameters), 'parameter')}"
    if not lacking.parameters:
        what = "its skeleton"
    notes = [
        f"{count} {text}"
        for count, text in ((lacking.damaged, "damaged there"), (lacking.lost, "neither here nor on another remote"))
        if count
    ]
    return f"missing on {lacking.remote.name}: {shown_path(version.path)} ({commit}): {what}" + "".join(
        f"; {note}" for note in notes
    )
