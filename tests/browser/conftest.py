"""A headless Chromium, and the pages that it opens."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver import Chrome

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chrome]:
    """Start Debian's Chromium once."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or program is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = program
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1200,1000",
    ):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        browser = Chrome(options=options, service=Service(driver))
    except WebDriverException as error:
        pytest.skip(f"chromium does not start here: {error.msg}")
    with browser:
        yield browser


@pytest.fixture
def opened(chromium: Chrome, tmp_path: Path) -> Iterator[Callable[[str], Chrome]]:
    """Return a function that opens a page. At the end it has requested nothing, and the console is empty."""
    path = tmp_path / "page.html"

    def open_page(text: str) -> Chrome:
        path.write_text(text, encoding="utf-8")
        chromium.get_log("performance")
        chromium.get(path.as_uri())
        return chromium

    yield open_page
    assert chromium.get_log("browser") == []
    requests = [entry for entry in chromium.get_log("performance") if "Network.requestWillBeSent" in entry["message"]]
    assert all(path.name in entry["message"] for entry in requests), requests


@pytest.fixture
def screenshot(chromium: Chrome) -> Callable[[str], None]:
    """Return a function that keeps a picture of the page in build/screenshots."""

    def save(name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        assert chromium.save_screenshot(SCREENSHOTS / f"{name}.png")

    return save
