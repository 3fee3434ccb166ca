"""The median conforms to what git theta asks of merge methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from git_theta_ext.testing import MergeMethodTests

if TYPE_CHECKING:
    from git_theta_ext.interfaces import MergeMethod


class TestMedian(MergeMethodTests):
    @pytest.fixture
    def method(self) -> MergeMethod:
        """Return the method that is tested."""
        from example_plugins.median import METHOD

        return METHOD
