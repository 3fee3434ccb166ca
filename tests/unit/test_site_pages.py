"""What the site makes of notebooks and tables."""

from __future__ import annotations

import json

from documentation.site_pages import notebook_page, unbroken, with_short_words, with_unbroken_cells

GAP, JOINER = "\N{NO-BREAK SPACE}", "\N{WORD JOINER}"


def test_no_line_ends_between_a_number_and_its_unit_or_within_a_name() -> None:
    assert unbroken("5 MB, 3.1 s of 10 % in 2 steps") == f"5{GAP}MB, 3.1{GAP}s of 10{GAP}% in 2 steps"
    names = f"git-{JOINER}lfs, git-{JOINER}theta, hf-{JOINER}xet, SHA-{JOINER}256, git-annex, a well-known one"
    assert unbroken(names.replace(JOINER, "")) == names


def test_words_of_code_that_fit_into_a_line_are_marked() -> None:
    option, path = ('<code><span class="pre">' + text + "</span></code>" for text in ("--dtype", "a/" * 30))
    assert with_short_words(option + path) == option.replace("pre", "pre short") + path


def test_no_line_of_a_table_ends_within_a_short_first_cell() -> None:
    page = "git theta\n| git theta | two words |\n| `git theta` | |\n|---|---|\n"
    assert with_unbroken_cells(page) == page.replace("| git theta", f"| git{GAP}theta", 1)


def test_a_notebook_is_a_page_with_its_outputs() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "%%bash\nls", "outputs": []},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": [{"output_type": "stream", "text": ["a\n", "b\n"]}]},
        {
            "cell_type": "code",
            "source": "x",
            "outputs": [{"output_type": "execute_result", "data": {"text/plain": "2"}}],
        },
        {
            "cell_type": "code",
            "source": "y",
            "outputs": [{"output_type": "display_data", "data": {"text/html": '<table border="1" class="dataframe">'}}],
        },
    ]
    page = notebook_page(json.dumps({"cells": cells}), "one.ipynb")
    assert page.startswith(
        "# Title\ntext\n\nDownload this page as a notebook: {download}`one.ipynb`.\n\n````sh\nls\n````"
    )
    assert "````python\n1 + 1\n````\n\n````text\na\nb\n````" in page
    assert "````text\n2\n````" in page
    table = '<div class="table-wrapper docutils container">\n<table class="docutils">\n</div>'
    assert f"````{{raw}} html\n{table}\n````" in page
