"""The executable bit of a model's files follows the side that changed it, as with any file."""

import pytest

from git_theta_ext.operations.merge.merged_trees import MergedTrees
from git_theta_ext.operations.merge.model_directories import MergedDirectories
from git_theta_ext.operations.models import Directory


def directory(executable):
    if executable is None:
        return Directory(None, {})
    return Directory(None, {"a": "1" * 40}, frozenset({"a"} if executable else ()))


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "mode"),
    [
        (True, True, True, "100755"),
        (False, True, False, "100755"),
        (False, False, True, "100755"),
        (True, True, False, "100644"),
        (True, None, False, "100644"),
        (None, None, True, "100755"),
        (None, False, None, "100644"),
        (None, None, None, "100644"),
    ],
)
def test_mode_of_a_merged_file(base, ours, theirs, mode):
    directories = MergedDirectories(
        "a", MergedTrees("0", ("1", "2")), directory(base), (directory(ours), directory(theirs)), ""
    )
    assert directories.mode("a") == mode
