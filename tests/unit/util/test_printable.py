import pytest

from git_theta_ext.util.text import printable, quoted, redacted, shortlist, unquoted

ESCAPES = "\x1b]0;title\x07\x1b[2J\r\x9b31m\u202e\x00\x7f\udc9b"


def test_nothing_that_controls_a_terminal_is_printed():
    assert printable(f"a{ESCAPES}b") == (r"a\x1b]0;title\x07\x1b[2J\x0d\x9b31m\u202e\x00\x7f\x9bb")
    assert printable("ünï\tcode\nüber 漢字 \udce9") == "ünï\tcode\nüber 漢字 \udce9"


def test_what_is_quoted_can_be_read_back():
    assert unquoted(quoted(ESCAPES)) == ESCAPES
    assert unquoted(quoted("x" * 5000)) == "x" * 5000
    assert unquoted('"' + "[" * 100) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read https://me:secret@host/a@b", "cannot read https://host/a@b"),
        ("https://me:p@ss@host/x.git: refused", "https://host/x.git: refused"),
        ("s3://AKIA:se@cr@et@bucket/x", "s3://bucket/x"),
        ("https://me:a/b@host/x", "https://host/x"),
        ("http://host:8080/x@y", "http://host:8080/x@y"),
        ("'https://token@host' and 'me@x'", "'https://host' and 'me@x'"),
        (
            "https://h/x?X-Amz-Signature=abc&part=1&access_token=t",
            "https://h/x?X-Amz-Signature=***&part=1&access_token=***",
        ),
        ("git@host:path and key=value", "git@host:path and key=value"),
    ],
)
def test_addresses_are_shown_without_credentials(text, shown):
    assert redacted(text) == shown
    assert printable(text) == shown


def test_a_long_list_of_names_says_how_many_it_leaves_out():
    assert shortlist(["a", "b"], 2) == "a, b"
    assert shortlist(iter("abcd"), 2) == "a, b and 2 more"
    assert shortlist([]) == ""
