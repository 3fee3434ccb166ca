"""The part of ``git theta fsck`` that checks a remote."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.diff.words import plural
from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.operations.sync.remote_check import check_remote
from git_theta_ext.operations.sync.remotes import local_path

if TYPE_CHECKING:
    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.sync.remote_check import Lacking
    from git_theta_ext.operations.workspace import Workspace


def check(output: Output, workspace: Workspace, name: str | None, *, full: bool) -> int:
    """Say what a remote lacks, by path and version, and the command that mends it; return the exit code."""
    with output.progress("comparing packs", 0) as advance:
        places, versions, found = check_remote(workspace, name, full=full, advance=advance)
    told = {
        "remotes": [{"name": place.name, "url": place.url} for place in places],
        "versions": versions,
        "problems": [_told(lacking) for lacking in found],
    }
    where = ", ".join(f"{place.name} ({place.url})" for place in places)
    good = f"{plural(versions, 'version')} of checkpoints, {where} has everything"
    output.result(told, [_line(lacking) for lacking in found] or [good])
    damaged = {lacking.place.url: lacking.place for lacking in found if lacking.damaged}
    for url, place in damaged.items():
        local = local_path(url) is not None
        mend = (
            f"run git theta fsck --full --repair in {quote(url)}" if local else f"remove the damaged packs from {url}"
        )
        output.warning(f"{place.name} has damaged packs", mend)
    if any(lacking.parameters > lacking.damaged or not lacking.parameters for lacking in found):
        command = f"git theta push --all {quote(found[0].place.name)}"
        if any(lacking.lost for lacking in found):
            output.warning("not all of it is here or on another remote", f"run {command} in a clone that has it")
        else:
            output.warning(f"{found[0].place.name} lacks parameters that branches or tags name", command)
    if not found:
        return 0
    return CorruptError.exit_code if damaged else MissingError.exit_code


def _told(lacking: Lacking) -> dict[str, object]:
    return {
        "url": lacking.place.url,
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
    return f"missing on {lacking.place.name}: {version.path} ({commit}): {what}" + "".join(
        f"; {note}" for note in notes
    )
