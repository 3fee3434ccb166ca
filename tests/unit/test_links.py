"""Links of the documentation lead to files and headings that exist."""

from pathlib import Path

import pytest
from documentation.links import broken, headings

PAGE = """\
# A page

## What `git add` does, and why

## Twice

## Twice

```sh
# no heading
[no link](nowhere.md)
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_headings_have_the_anchors_of_hosting_sites(page: Path) -> None:
    assert headings(page) == {"a-page", "what-git-add-does-and-why", "twice", "twice-1"}


def test_an_included_page_brings_its_headings(page: Path) -> None:
    other = page.with_name("other.md")
    other.write_text("```{include} page.md\n```\n")
    assert "a-page" in headings(other)


def test_links_that_lead_nowhere_are_named(page: Path) -> None:
    other = page.with_name("links.md")
    other.write_text(
        "# Links\n[a](page.md#twice) [b](page.md#thrice) [c](gone.md) [d](#links) [e](#gone) [f](https://example.com/#g)\n"
    )
    assert [problem.removeprefix(f"{other}: ") for problem in broken([page, other])] == [
        "page.md#thrice: there is no such heading",
        "gone.md: there is no such file",
        "#gone: there is no such heading",
    ]
