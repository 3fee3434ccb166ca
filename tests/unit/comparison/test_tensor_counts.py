"""Messages count tensors as users know them."""

import pytest

from git_theta_ext.comparison.words import count_tensors


@pytest.mark.parametrize(
    ("digests", "text"),
    [("", "0 tensors"), ("a", "1 tensor"), ("abs", "2 tensors"), ("s", "1 file layout"), ("st", "2 file layouts")],
)
def test_layouts_count_only_if_there_is_nothing_else(digests, text):
    assert count_tensors(list(digests), {"s", "t"}) == text
