"""The built-in kinds of statistics keep the contract."""

from __future__ import annotations

import pytest

from git_theta_ext.registry import built_in, find_statistics
from git_theta_ext.testing.statistics import StatisticsTests


@pytest.fixture(params=built_in("statistics"))
def kind(request):
    """Return each built-in kind."""
    return find_statistics(request.param)


class TestBuiltIn(StatisticsTests):
    pass
