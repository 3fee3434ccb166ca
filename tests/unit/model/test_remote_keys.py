import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import UsageError
from git_theta_ext.model.remote_keys import (
    check_key,
    check_prefix,
    index_key,
    is_key,
    pack_key,
    pack_of_index_key,
    pack_of_key,
)
from git_theta_ext.testing.remotes import BAD_KEYS

NAME = "ab" * 32


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_refused(key):
    assert not is_key(key)
    with pytest.raises(UsageError):
        check_key(key)


@pytest.mark.parametrize("prefix", ["/", "..", "packs/../", "packs//", "~"])
def test_bad_prefixes_are_refused(prefix):
    with pytest.raises(UsageError):
        check_prefix(prefix)


@pytest.mark.parametrize("prefix", ["", "packs/", "packs/a", "index"])
def test_prefixes_of_keys_pass(prefix):
    assert check_prefix(prefix) == prefix


def test_pack_keys_lead_back_to_their_packs():
    assert pack_key(NAME) == f"packs/ab/{NAME}"
    assert pack_of_key(pack_key(NAME)) == NAME
    assert pack_of_index_key(index_key(NAME)) == NAME


@pytest.mark.parametrize(
    "key", [f"packs/ac/{NAME}", f"packs/{NAME}", f"packs/ab/{NAME}0", f"packs/ab/{NAME[:-1]}X", f"x/packs/ab/{NAME}"]
)
def test_other_keys_name_no_pack(key):
    assert pack_of_key(key) is None


def test_other_keys_name_no_index_entry():
    assert pack_of_index_key(pack_key(NAME)) is None
    assert pack_of_index_key(f"index/{NAME}.tmp") is None


@given(st.text(max_size=40))
def test_a_key_never_leaves_its_root(text):
    if is_key(text):
        assert not text.startswith("/")
        assert not {"", ".", ".."} & set(text.split("/"))
        assert text.isascii()
        assert "\n" not in text
