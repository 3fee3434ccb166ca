"""The program ``git-theta``.

Git starts it for each file that it merges. If an earlier start has merged this file, too, an answer takes hardly longer
than Python takes to start. Neither does the text of a manifest, for which git starts it for each version that it shows.
"""

from __future__ import annotations

import sys

from git_theta_ext.git.answers import take_answer

TYPE_CHECKING = False  # importing typing would take as long as this module
if TYPE_CHECKING:
    from collections.abc import Sequence

_MERGE_DRIVER = "merge-driver"
_TEXTCONV = "textconv"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``git theta`` and return its exit code.

    Args:
        argv: The arguments; None for those of the process.
    """
    if argv is None and sys.argv[1:2] == [_MERGE_DRIVER]:
        code = take_answer(sys.argv[2:])
        if code is not None:
            return code
    if argv is None and sys.argv[1:-1] == [_TEXTCONV]:
        from git_theta_ext.cli.plumbing.textconv import print_manifest

        try:
            if print_manifest(sys.argv[2]):
                return 0
        except (OSError, ValueError):  # ValueError: the argument cannot be encoded as it was
            pass  # as below
    from git_theta_ext.cli.dispatch import run

    return run(argv)
