"""Write the web pages of reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.util.files import reporting_os_errors, writing_output

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.webpage.blocks import Page


def write_page(path: Path, page: Page) -> None:
    """Write a page as HTML, atomically.

    Raises:
        StoreError: The file cannot be written.
    """
    from git_theta_ext.webpage.render import render  # other output starts faster without it

    with reporting_os_errors(path), writing_output(path) as file:
        file.write_text(render(page), encoding="utf-8")
