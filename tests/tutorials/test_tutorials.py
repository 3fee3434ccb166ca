"""Every tutorial works as its page says: each command, and what it prints."""

import pytest
from tutorial_runner.tutorial import missing, pages, renewed


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.stem)
def test_the_commands_of_a_tutorial_print_what_its_page_shows(page, tmp_path):
    if lacking := missing(page):
        pytest.skip(f"not installed: {', '.join(lacking)}")
    shown = page.read_text("utf-8")
    assert renewed(page, tmp_path).splitlines() == shown.splitlines(), f"run scripts/tutorials {page.stem}"
