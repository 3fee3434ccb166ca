import subprocess

import pytest

from git_theta_ext.errors import RepositoryError, UsageError
from git_theta_ext.git.attribute_lines import add, patterns, read, remove, write
from git_theta_ext.git.attributes import theta_paths

OURS = "filter=theta diff=theta merge=theta -text"
EXPECTED = {"filter": "theta", "diff": "theta", "merge": "theta", "text": "unset"}


@pytest.fixture
def run(tmp_path):
    def git(*args, input=None, check=True):  # noqa: A002 - as Repository.run
        return subprocess.run(["git", *args], cwd=tmp_path, input=input, check=check, capture_output=True).stdout

    git("init", "-q")
    return git


def asked(run, path):
    fields = run("check-attr", "-z", *EXPECTED, "--", path).decode().split("\0")
    return dict(zip(fields[1::3], fields[2::3], strict=False))


def test_a_pattern_is_added_on_a_line_of_its_own():
    assert add("", "*.pt").text == f"*.pt {OURS}\n"
    assert add("a text\n", "*.pt").text == f"a text\n*.pt {OURS}\n"


def test_adding_again_changes_nothing():
    once = add("# models\n", "my model.pt").text
    assert add(once, "my model.pt").text == once


def test_a_line_without_end_gets_one():
    assert add("a text", "*.pt").text == f"a text\n*.pt {OURS}\n"


def test_line_ends_of_windows_are_kept():
    text = add("a text\r\n", "*.pt").text
    assert text == f"a text\r\n*.pt {OURS}\r\n"
    assert add(text, "*.pt").text == text
    assert add("*.pt diff=foo\r\n", "*.pt").text == "*.pt diff=foo filter=theta merge=theta -text\r\n"
    assert remove(text, "*.pt") == "a text\r\n"


def test_foreign_attributes_of_the_pattern_are_kept_and_told():
    added = add("*.pt diff=foo -export-ignore\n*.bin text\n", "*.pt")
    assert added.text == "*.pt diff=foo -export-ignore filter=theta merge=theta -text\n*.bin text\n"
    assert added.kept == ("diff=foo",)


def test_what_a_line_leaves_open_is_added():
    added = add("*.pt !diff\n", "*.pt")
    assert added.text == f"*.pt !diff {OURS}\n"
    assert added.kept == ()


@pytest.mark.parametrize("state", ["filter=crypt", "-filter", "text", "text=auto"])
def test_another_filter_or_text_conversion_is_a_conflict(state):
    with pytest.raises(UsageError, match=state):
        add(f"*.pt {state}\n", "*.pt")


def test_the_last_line_of_a_pattern_counts():
    assert add("*.pt filter=crypt\n*.pt filter=theta\n", "*.pt").text == (
        "*.pt filter=crypt\n*.pt filter=theta diff=theta merge=theta -text\n"
    )
    with pytest.raises(UsageError, match="filter=crypt"):
        add("*.pt filter=theta\n*.pt filter=crypt\n", "*.pt")


def test_what_the_pattern_gives_to_git_lfs_is_replaced_in_its_place():
    lfs = "filter=lfs diff=lfs merge=lfs -text"
    added = add(f"*.bin {lfs}\n*.pt {lfs} lockable\nsaved/** {lfs}\n", "*.pt")
    assert added.text == f"*.bin {lfs}\n*.pt -text lockable filter=theta diff=theta merge=theta\nsaved/** {lfs}\n"
    assert added.replaced == ("filter=lfs", "diff=lfs", "merge=lfs")
    assert add("*.pt filter=lfs diff=lfs merge=lfs\r\n", "*.pt").text == f"*.pt {OURS}\r\n"
    assert add(f"*.pt {OURS}\n", "*.pt").replaced == ()


def test_binary_is_overridden(run, tmp_path):
    write(tmp_path / ".gitattributes", add("*.pt binary\n", "*.pt").text)
    assert asked(run, "a.pt") == EXPECTED


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "\n\n  \t\n", "[attr]binary2 -diff\n", "!a.pt text\n", "\x0b \u2028x y\n"]
)
def test_lines_without_the_pattern_stay(text):
    added = add(text, "*.pt").text
    assert added == text + f"*.pt {OURS}\n"
    assert remove(added, "*.pt") == text


def test_removing_keeps_foreign_attributes_and_their_spacing():
    text = "*.pt   diff=foo \tfilter=theta merge=theta -text  export-ignore\n"
    assert remove(text, "*.pt") == "*.pt   diff=foo  export-ignore\n"


def test_removing_keeps_a_text_setting_that_was_there_before():
    before = "*.pt -text\n"
    after = add(before, "*.pt").text
    assert after == "*.pt -text filter=theta diff=theta merge=theta\n"
    assert remove(after, "*.pt") == before


def test_removing_takes_the_format_along():
    assert remove(f"*.pt {OURS} theta-format=opaque\n", "*.pt") == ""


def test_removing_leaves_other_filters_and_patterns():
    text = f"*.pt filter=lfs -text\n*.bin {OURS}\n"
    assert remove(text, "*.pt") == text
    assert remove(text, "*.p") == text


def test_tracked_patterns_are_listed_once():
    text = f'*.pt {OURS}\n# x filter=theta\n"my \\303\\251.pt" {OURS}\n*.bin filter=lfs\n*.pt filter=theta\n'
    assert patterns(text) == ["*.pt", "my é.pt"]


PATTERNS = [
    ("my model.pt", "my model.pt"),
    ("tab\there.pt", "tab\there.pt"),
    ("модель*.pt", "модель 1.pt"),
    ('"quoted".pt', '"quoted".pt'),
    ('in"side.pt', 'in"side.pt'),
    ('both "and more".pt', 'both "and more".pt'),
    ("#1.pt", "#1.pt"),
    ("!urgent.pt", "!urgent.pt"),
    ("!very urgent.pt", "!very urgent.pt"),
    ("with\\*star .pt", "with*star .pt"),
    ("models/**", "models/a/b.pt"),
    ("/models/*.pt", "models/b.pt"),
    ("new\nline.pt", "new\nline.pt"),
    (" leading.pt", " leading.pt"),
    ("trailing.pt ", "trailing.pt "),
    ("[ab].pt", "b.pt"),
    ("bell\x07 é.pt", "bell\x07 é.pt"),
]


@pytest.mark.parametrize(("pattern", "path"), PATTERNS)
def test_git_understands_what_is_added(run, tmp_path, pattern, path):
    attributes = tmp_path / ".gitattributes"
    write(attributes, "# first\n")
    write(attributes, add(read(attributes), pattern).text)
    assert asked(run, path) == EXPECTED
    assert asked(run, "other.txt")["filter"] == "unspecified"
    assert add(read(attributes), pattern).text == read(attributes)
    assert remove(read(attributes), pattern) == "# first\n"


@pytest.mark.parametrize("pattern", ["", "[attr]theta", "nul\0", "models/", "x" * 3000])
def test_what_git_would_not_take_is_refused(pattern):
    with pytest.raises(UsageError):
        add("", pattern)


def test_a_byte_order_mark_is_no_part_of_the_pattern(run, tmp_path):
    text = add("\ufeff*.pt -diff\n", "*.pt").text
    assert text == "\ufeff*.pt -diff filter=theta merge=theta -text\n"
    write(tmp_path / ".gitattributes", text)
    assert asked(run, "a.pt")["filter"] == "theta"


def test_bytes_that_are_no_text_survive(tmp_path):
    path = tmp_path / ".gitattributes"
    path.write_bytes(b"\xff.txt text\n")
    write(path, add(read(path), "*.pt").text)
    assert path.read_bytes() == b"\xff.txt text\n*.pt " + OURS.encode() + b"\n"


def test_no_file_reads_as_empty(tmp_path):
    assert read(tmp_path / ".gitattributes") == ""


def test_git_says_which_paths_are_checkpoints(run, tmp_path):
    (tmp_path / "sub").mkdir()
    lines = ["[attr]model filter=theta", f"*.pt {OURS}", "odd.pt theta-format=opaque", "plain.pt -filter", "*.m model"]
    write(tmp_path / ".gitattributes", "\n".join(lines) + "\n")
    write(tmp_path / "sub" / ".gitattributes", "*.pt filter=lfs\n*.bin filter=theta -theta-format\n")
    paths = ["a.pt", "odd.pt", "plain.pt", "sub/a.pt", "sub/a b.bin", "é\n.pt", "x.m", "notes.txt"]
    assert theta_paths(run, paths) == {
        "a.pt": None,
        "odd.pt": "opaque",
        "sub/a b.bin": None,
        "é\n.pt": None,
        "x.m": None,
    }


def test_git_is_not_asked_about_nothing():
    assert theta_paths(None, []) == {}


@pytest.mark.parametrize("answer", [b"", b"a.pt\0filter\0theta\0", b"a.pt\0filter"])
def test_an_answer_that_is_cut_short_is_refused(answer):
    with pytest.raises(RepositoryError, match=r"a\.pt"):
        theta_paths(lambda *args, input=None, check=True: answer, ["a.pt"])  # noqa: A006 - as Repository.run
