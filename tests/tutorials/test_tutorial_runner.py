"""What runs tutorials finds each way in which a page can be wrong, and leaves out what differs from run to run."""

import pytest
from tutorial_runner import tutorial
from tutorial_runner.compare import same
from tutorial_runner.page import read

from git_theta_ext.errors import UsageError

ID, OTHER = "1a2b3c4d5", "abcdefabc"


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (f"[main {ID}] Train", f"[main {OTHER}] Train"),
        ("on 2026-11-30", "on 2027-01-02"),
        ("at 2026-11-30T05:44:47Z by ada", "at 2027-01-02T15:00:01Z by ada"),
        ("1.81 MB of 4.17 MB", "1.85 MB of 4.2 MB"),
        ("128 kB in 4 packs", "131 kB in 4 packs"),
        ("rel. change 5.0e-02, rank 8", "rel. change 5.1e-02, rank 8"),
        ("rank 61 … 62", "rank 61"),
        ("a  1.2 MB", "a 1.3 MB"),
        ("▅▆▇", "▅▆▆"),
        ("took …", "took 0.3 s on 2 threads"),
        ("…\nlast", "first\nsecond\nlast"),
        ("first\n…", "first"),
    ],
)
def test_what_differs_from_run_to_run_is_the_same(expected, printed):
    assert same(expected.splitlines(), printed.splitlines())


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("3 modified, 6 unchanged", "4 modified, 6 unchanged"),
        ("rank 4", "rank 8"),
        ("1.81 MB", "3.62 MB"),
        ("1.81 MB", "1.81 kB"),
        (f"[main {ID}] Train", "[main word] Train"),
        ("first", "first\nsecond"),
        ("first\nsecond", "first"),
        ("first\n…\nlast", "first\nsecond"),
        ("took … ", "tookk 3 s"),
        ("", "warning: something"),
    ],
)
def test_what_a_reader_would_wonder_at_differs(expected, printed):
    assert not same(expected.splitlines(), printed.splitlines())


def renew(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    folder = tmp_path / "run"
    folder.mkdir()
    return tutorial.renewed(page, folder)


PAGE = """\
# A page

Save this as `greet.sh`:

<!-- file: greet.sh -->
```bash
echo "hello $1" from "$HOME"
```

```sh
cd /
cd
name=Ada
```

<!-- run
name="$name Lovelace"
-->

```sh
sh greet.sh "$name"
```

It prints this:

```text
hello Ada Lovelace from /home/me
```

<!-- exit: 3 -->
```sh
(exit 3)
```

<!-- not run -->
```sh
exit 1
```
"""


def test_a_page_that_is_right_stays_as_it_is(tmp_path):
    assert renew(tmp_path, PAGE) == PAGE


def test_an_output_that_differs_is_renewed(tmp_path):
    assert renew(tmp_path, PAGE.replace("hello Ada", "hello Bo")) == PAGE


@pytest.mark.parametrize(
    ("changed", "line", "status"),
    [
        (PAGE.replace("name=Ada", "git frobnicate"), 11, 1),
        (PAGE.replace("(exit 3)", "(exit 4)"), 32, 4),
        (PAGE.replace("(exit 3)", "true"), 32, 1),
    ],
    ids=["a command fails", "another exit status", "a success that should fail"],
)
def test_a_command_that_does_not_end_as_the_page_says_is_named_by_its_line(tmp_path, changed, line, status):
    with pytest.raises(tutorial.TutorialError, match=f"page.md:{line}: exit status {status} instead of"):
        renew(tmp_path, changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- fiel: x -->", "line 1: unknown comment"),
        ("```sh\ntrue", "line 1: nothing ends"),
        ("```text\nhello\n```", "line 1: output without commands"),
        (
            "Save `a.py`.\n```sh\n```\nSave this:\n<!-- file: a.py -->\n```python\n```",
            "line 6: the text before .* `a.py`",
        ),
    ],
)
def test_a_mark_that_is_not_understood_is_an_error(text, message):
    with pytest.raises(UsageError, match=message):
        read(text)


def test_what_is_not_installed_is_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- needs: git no-such-program pytest -->\n")
    assert tutorial.missing(page) == ["no-such-program"]
