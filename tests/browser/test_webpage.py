"""Reports as they are used in a browser: by mouse, by keyboard, and with names that look like markup."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.webpage.blocks import Cell, Heatmap, Histogram, Page, Section, Table
from git_theta_ext.webpage.layers import heatmap_of_layers
from git_theta_ext.webpage.render import render

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

MODULES = ("attn.q", "attn.k", "mlp.up", "norm")
BAD = '"><img src=x onerror="document.title=1"><script>document.title=1</script>'


def page(layers: int = 6) -> str:
    changes = [
        (f"layers.{layer}.{module}.weight", 10.0 ** (place - layer), f"{100 * 10.0 ** (place - layer):.3g} %")
        for layer in range(layers)
        for place, module in enumerate(MODULES, -3)
    ]
    changes += [("embedding.weight", 0.0, "0 %"), (f"layers.1.{BAD}", math.nan, "nan %")]
    chart = heatmap_of_layers("Change", changes)
    assert chart is not None
    table = Table(
        "Parameters", ("parameter", "change"), [(name, text) for name, _, text in changes], {(0, 1): 0.3, (1, 1): 0.01}
    )
    histogram = Histogram("Parameters by change", {"1e-3": 4, "1e-2": 0, "1e-1": 9})
    section = Section(f"model.safetensors {BAD}", ["All parameters differ."], [chart, histogram, table])
    return render(Page("Diff", ["What the numbers mean."], [section]))


def shown(browser: Chrome) -> list[str]:
    """Return the names in the rows that are not hidden."""
    return [
        row.find_element(By.TAG_NAME, "td").text
        for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr:not([hidden])")
    ]


def focused(browser: Chrome) -> WebElement:
    return browser.switch_to.active_element


def name_of(cell: WebElement) -> str | None:
    return cell.find_element(By.TAG_NAME, "title").get_attribute("textContent")


def test_names_stay_text_and_the_page_is_whole_in_light_and_dark(
    opened: Callable[[str], Chrome], screenshot: Callable[[str], None]
) -> None:
    browser = opened(page())
    assert browser.title == "Diff"
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert f"layers.1.{BAD}" in shown(browser)
    assert BAD in browser.find_element(By.TAG_NAME, "h2").text
    papers = {}
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        papers[scheme] = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        screenshot(f"report-{scheme}")
    assert papers["light"] != papers["dark"]


def test_typing_filters_rows_and_dims_cells(opened: Callable[[str], Chrome]) -> None:
    browser = opened(page())
    field = browser.find_element(By.ID, "filter")
    field.send_keys("LAYERS.2.*")
    assert shown(browser) == [f"layers.2.{module}.weight" for module in MODULES]
    assert browser.find_element(By.ID, "found").text == "4 of 26 rows"
    assert len(browser.find_elements(By.CSS_SELECTOR, "rect:not(.dim)[role=gridcell]")) == len(MODULES)
    field.clear()
    field.send_keys("mlp")
    assert shown(browser) == [f"layers.{layer}.mlp.up.weight" for layer in range(6)]
    field.send_keys("(")  # no pattern is an error
    assert shown(browser) == []
    field.send_keys(Keys.ESCAPE)
    assert len(shown(browser)) == 26


def test_a_click_on_a_cell_shows_its_parameter(opened: Callable[[str], Chrome]) -> None:
    browser = opened(page())
    browser.find_element(By.CSS_SELECTOR, "[role=row]:nth-child(3) > rect:nth-of-type(4)").click()
    assert shown(browser) == ["layers.3.attn.k.weight"]


def test_cells_are_reached_with_the_keyboard(opened: Callable[[str], Chrome]) -> None:
    browser = opened(page())
    browser.find_element(By.TAG_NAME, "body").send_keys("/")
    assert focused(browser).get_attribute("id") == "filter"
    focused(browser).send_keys(Keys.TAB)
    assert name_of(focused(browser)) == "layers.0.attn.q.weight: 0.1 %"
    for key in (Keys.RIGHT, Keys.DOWN, Keys.DOWN, Keys.LEFT, Keys.LEFT, Keys.UP):
        focused(browser).send_keys(key)
    assert name_of(focused(browser)) == "layers.0.attn.k.weight: 1 %"
    focused(browser).send_keys(Keys.END)
    assert name_of(focused(browser)) == "layers.5.attn.k.weight: 1e-05 %"
    focused(browser).send_keys(Keys.ENTER)
    assert shown(browser) == ["layers.5.attn.k.weight"]
    assert browser.find_element(By.ID, "found").text == "1 of 26 rows"


def test_tables_are_sorted_by_any_column(opened: Callable[[str], Chrome]) -> None:
    browser = opened(page())
    name, change = browser.find_elements(By.CSS_SELECTOR, "th button")
    change.click()
    assert shown(browser)[:2] == [f"layers.1.{BAD}", "layers.0.norm.weight"]
    assert change.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    change.click()
    assert shown(browser)[0] == "embedding.weight"
    name.send_keys(Keys.ENTER)
    names = shown(browser)
    assert names[:2] == ["embedding.weight", "layers.0.attn.k.weight"]
    assert names[-1] == "layers.5.norm.weight"
    assert change.find_element(By.XPATH, "..").get_attribute("aria-sort") is None


def commits() -> Page:
    chart = Heatmap(
        "Changes", "parameters by commit", "Change", ["c1"], {"w": [Cell(0.1, "c1 w: 1 of 1 changed", "w")]}
    )
    rows = [
        ("layers.10", "2026-01-09", "8"),
        ("layers.9", "2026-01-10", "≥ 48"),
        ("layers.2", "2025-12-31", ""),
        ("layers.1", "2026-01-01", "12"),
    ]
    table = Table("Commits", ("commit", "date", "rank"), rows, {}, named=False)
    return Page("Log", [], [Section("m.safetensors", [], [chart, table])])


def test_names_with_numbers_dates_and_bounds_are_sorted_by_what_they_mean(opened: Callable[[str], Chrome]) -> None:
    browser = opened(render(commits()))
    name, date, rank = browser.find_elements(By.CSS_SELECTOR, "th button")
    orders = []
    for button in (name, date, rank):
        button.click()
        orders.append([row.removeprefix("layers.") for row in shown(browser)])
    assert orders == [["1", "2", "9", "10"], ["9", "10", "1", "2"], ["9", "1", "10", "2"]]


def test_rows_that_are_no_parameters_are_not_filtered_by_their_names(opened: Callable[[str], Chrome]) -> None:
    browser = opened(render(commits()))
    assert browser.find_element(By.ID, "found").text == "1 cell"
    browser.find_element(By.ID, "filter").send_keys("other")
    assert len(shown(browser)) == 4
    assert browser.find_element(By.ID, "found").text == "0 of 1 cells"


def test_a_report_without_scripts_has_all_rows(opened: Callable[[str], Chrome]) -> None:
    text = page()
    browser = opened(text[: text.rindex("<script>")])
    assert len(shown(browser)) == 26
    assert not browser.find_element(By.ID, "filter").is_displayed()
