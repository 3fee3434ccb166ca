import os

import pytest

from git_theta_ext.errors import ConfigError
from git_theta_ext.git.sharing import share


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("umask", 0o027),
        ("0", 0o027),
        ("group", 0o007),
        (None, 0o007),
        ("1", 0o007),
        ("All", 0o002),
        ("2", 0o002),
        ("0640", 0o027),
        ("0666", 0o000),
        ("0600", 0o077),
    ],
)
def test_files_are_made_as_git_makes_its_own(value, expected):
    share(value)
    assert os.umask(0) & 0o077 == expected & 0o077


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("value", ["friends", "9", "0060", "-1"])
def test_what_git_does_not_take_is_an_error(value):
    with pytest.raises(ConfigError, match="sharedRepository"):
        share(value)
