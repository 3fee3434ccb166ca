"""Upload parameters, and check every byte that the remote then has of them: ``git theta push --verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError
from git_theta_ext.operations.sync.remotes import open_remote
from git_theta_ext.records import replace
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_ext.transfer.verify import verified
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from git_theta_ext.operations.sync.push import Push, Pushed
    from git_theta_ext.util.reporter import Progress

_ROUNDS = 2


def push_verified(push: Push, *, advance: Progress = no_progress) -> Pushed:
    """Upload what the remote lacks, download all packs that the commits need, and upload damaged ones again.

    Raises:
        CorruptError: What was uploaded is damaged again.
        ThetaError: See ``Push.run``.
    """
    done = push.run(strict=False, advance=advance)
    digests = push.look(strict=False).needed.digests
    if not digests:
        return done
    store = push.workspace.store
    for left in reversed(range(_ROUNDS)):
        remote = open_remote(push.workspace, push.remote, push.address)  # again, since it reads its index once
        held = read_remote_index(store, remote).held(digests)
        with push.workspace.reporter.progress("verifying parameters") as checked:
            sound = verified(store, remote, held, download=True, advance=checked)
        if sound == held:
            break
        if not left:
            raise CorruptError(
                f"{remote.name} ({remote.url}) has other bytes than were uploaded",
                hint=f"git theta fsck --full --remote {shell_word(push.shown)}",
            )
        again = push.run(strict=False, advance=advance)
        done = replace(
            again,
            lacking=done.lacking | again.lacking,
            packs=done.packs + again.packs,
            nbytes=done.nbytes + again.nbytes,
        )
    return done
