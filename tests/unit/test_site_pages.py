"""What the site makes of notebooks and tables."""

from __future__ import annotations

import json

from documentation.site_pages import notebook_page, with_units

GAP = "\N{NO-BREAK SPACE}"


def test_a_number_in_a_table_stays_beside_its_unit_but_not_in_code_or_text() -> None:
    page = "takes 5 MB\n| git theta | 5 MB, 3.1 s | `--size 5 MB` | 10 % |\n"
    assert with_units(page) == f"takes 5 MB\n| git{GAP}theta | 5{GAP}MB, 3.1{GAP}s | `--size 5 MB` | 10{GAP}% |\n"
    assert with_units("|---|---|\n") == "|---|---|\n"


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
            "outputs": [{"output_type": "display_data", "data": {"text/html": "<b>"}}],
        },
    ]
    page = notebook_page(json.dumps({"cells": cells}), "one.ipynb")
    assert page.startswith(
        "# Title\ntext\n\nDownload this page as a notebook: {download}`one.ipynb`.\n\n````sh\nls\n````"
    )
    assert "````python\n1 + 1\n````\n\n````text\na\nb\n````" in page
    assert "````text\n2\n````" in page
    assert "````{raw} html\n<b>\n````" in page
