"""Parts of a pack are uploaded several at a time, and stop together."""

from threading import Barrier, Event

import pytest

from git_theta_ext.errors import RemoteError
from git_theta_plugins.remotes._part_uploads import upload_parts
from git_theta_plugins.remotes._parts import Part

PARTS = tuple(Part(f"{number:064x}", 10) for number in range(6))
WAIT = 60  # seconds; only a failure takes as long


def test_parts_are_sent_at_the_same_time_and_counted_together():
    barrier, placed, reports = Barrier(2), {}, []

    def upload(part, start, count):
        barrier.wait(WAIT)
        placed[part] = start
        count(start)
        count(start + 4)
        return part is not PARTS[3]

    assert not upload_parts(PARTS, upload, reports.append)
    assert placed == {part: 10 * number for number, part in enumerate(PARTS)}
    assert reports == sorted(reports)
    assert reports[-1] == 60
    assert upload_parts(PARTS[:2], upload, reports.append)


def test_if_a_part_fails_the_others_stop_and_its_error_is_raised():
    begun, failed = Event(), Event()

    def upload(part, start, count):
        if part is PARTS[1]:
            begun.wait(WAIT)
            failed.set()
            raise RemoteError("no space left")
        begun.set()
        failed.wait(WAIT)
        while True:  # until the report ends it
            count(start + 1)

    with pytest.raises(RemoteError, match="no space left"):
        upload_parts(PARTS, upload, lambda _: None)
