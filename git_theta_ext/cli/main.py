"""The program ``git-theta``.

Git starts it for each file that it merges or compares. If an earlier start has done this file, too, an answer takes
hardly longer than Python takes to start. Neither does the text of a manifest, for which git starts it for each version
that it shows.
"""

from __future__ import annotations

import sys

from git_theta_ext.git.answers import take_answer, take_text

TYPE_CHECKING = False  # importing typing would take as long as this module
if TYPE_CHECKING:
    from collections.abc import Sequence

_ANSWERS = {"merge-driver": take_answer, "diff-driver": take_text}
_TEXTCONV = "textconv"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``git theta`` and return its exit code.

    Args:
        argv: The arguments; None for those of the process.
    """
    if argv is None and len(sys.argv) > 1 and sys.argv[1] in _ANSWERS:
        code = _ANSWERS[sys.argv[1]](sys.argv[2:])
        if code is not None:
            return code
    if argv is None and sys.argv[1:-1] == [_TEXTCONV]:
        from git_theta_ext.cli.plumbing.textconv import print_manifest

        try:
            if print_manifest(sys.argv[2]):
                return 0
        except (OSError, ValueError):  # ValueError: the argument cannot be encoded as it was
            pass  # as below
    if argv is None:
        tune_gc()
    from git_theta_ext.cli.dispatch import run

    return run(argv)


def tune_gc() -> None:
    """Run the garbage collector rarely, and not when the process ends.

    Scanning what modules define, while they are imported and again at the end, takes a tenth of a filter's start, and a
    third of the time of a small merge that imports torch.
    """
    import atexit
    import gc

    gc.set_threshold(100_000, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
