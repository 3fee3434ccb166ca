from __future__ import annotations

import pytest

from git_theta_ext.config import Config, parse_bool, parse_int
from git_theta_ext.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, True),
        ("true", True),
        ("Yes", True),
        ("ON", True),
        ("1", True),
        ("-7", True),
        ("2k", True),
        ("False", False),
        ("no", False),
        ("off", False),
        ("0", False),
        ("", False),
        ("maybe", None),
        ("1.5", None),
    ],
)
def test_booleans_read_as_git_reads_them(text, expected):
    assert parse_bool(text) is expected


@pytest.mark.parametrize(("text", "expected"), [("12", 12), ("2k", 2048), ("1M", 1 << 20), ("x", None), ("k", None)])
def test_numbers_take_gits_suffixes(text, expected):
    assert parse_int(text) == expected


def test_the_last_value_counts_and_values_may_have_line_breaks():
    config = Config.parse(b"theta.merge.method\nties\0theta.merge.method\na\nb\0theta.flag\0")
    assert config.merge_override == ("method=a\nb",)
    assert config.flag("theta.flag", default=False) is True


def test_the_former_name_of_the_merge_options_still_counts():
    assert Config.parse(b"theta.merge.with\nlambda=0.5\0").merge_override == ("lambda=0.5",)
    both = b"theta.merge.options\ndensity=0.1\0theta.merge.with\nlambda=0.5\0"
    assert Config.parse(both).merge_override == ("density=0.1",)


def test_unset_keys_give_the_defaults():
    config = Config.parse(b"")
    assert (config.threads, config.merge_override, config.git_remotes) == (0, (), ())
    assert config.flag("theta.flag", default=False) is False


@pytest.mark.parametrize("value", [b"many", b"-1", b"1.5", b""])
def test_a_bad_number_names_key_and_mending_command(value):
    with pytest.raises(ConfigError, match=r"theta\.threads") as caught:
        _ = Config.parse(b"theta.threads\n" + value + b"\0").threads
    assert caught.value.hint == "git config theta.threads 0"


def test_a_bad_boolean_names_the_key():
    with pytest.raises(ConfigError, match=r"core\.filemode is 'perhaps'"):
        Config.parse(b"core.filemode\nperhaps\0").flag("core.filemode", default=True)


def test_a_key_without_a_value_is_no_text():
    with pytest.raises(ConfigError, match="without a value"):
        _ = Config.parse(b"theta.merge.method\0").merge_override


def test_remotes_keep_case_dots_and_options():
    config = Config.parse(
        b"remote.My.Fork.url\n../x\0remote.other.fetch\n+refs\0"
        b"theta.remote.My.Fork.url\ns3://b/p\0theta.remote.My.Fork.endpoint\nhttp://localhost:1\0"
    )
    assert config.git_remotes == ("My.Fork",)
    settings = config.remote("My.Fork")
    assert settings.url == "s3://b/p"
    assert dict(settings.options) == {"endpoint": "http://localhost:1"}
    assert config.remote("My").url is None
    assert dict(config.remote("My").options) == {}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("", False), ("all", True), ("committed", False), ("added", True), ("all,-index", False), ("none,Index", True)],
)
def test_core_fsync_counts_where_it_names_the_index(value, wanted):
    assert Config.parse(f"core.fsync\n{value}\0".encode()).fsync_index is wanted
