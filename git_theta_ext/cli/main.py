"""The program ``git-theta``.

Git starts it for each file that it merges. If an earlier start has merged this file, too, an answer takes hardly longer
than Python takes to start.
"""

from __future__ import annotations

import sys

from git_theta_ext.git.answers import take_answer

TYPE_CHECKING = False  # importing typing would take as long as this module
if TYPE_CHECKING:
    from collections.abc import Sequence

_MERGE_DRIVER = "merge-driver"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``git theta`` and return its exit code.

    Args:
        argv: The arguments; None for those of the process.
    """
    if argv is None and sys.argv[1:2] == [_MERGE_DRIVER]:
        code = take_answer(sys.argv[2:])
        if code is not None:
            return code
    from git_theta_ext.cli.dispatch import run

    return run(argv)
