"""The reference, `/docs`, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from api.http.problem_types import ProblemType
from infra.lab.stack import Stack
from tests.support.contract import contract
from tests.support.page import PHONE_WIDTH

_BROKEN_LINKS = """
() => [...document.querySelectorAll("a[href^='#']")]
  .map((link) => link.getAttribute("href").slice(1))
  .filter((name) => !document.getElementById(name))
"""

_STYLED = "() => getComputedStyle(document.querySelector('main')).maxWidth"


@pytest.mark.parametrize("width", [PHONE_WIDTH, 390, 1200])
def test_the_reference_has_every_call(open_page: Callable[..., Page], stack: Stack, width: int) -> None:
    """With its style, on a phone too; every link leads somewhere, and the browser complains of nothing."""
    page = open_page(f"{stack.url}/docs", viewport={"width": width, "height": 900})
    for _, _, operation in contract().operations():
        expect(page.locator(f"#{operation['operationId']}")).to_be_visible()
    assert page.evaluate(_BROKEN_LINKS) == []
    assert page.evaluate(_STYLED) != "none"
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_problem_leads_to_its_page_and_back(open_page: Callable[..., Page], stack: Stack) -> None:
    """From the table of problems, and from the `type` in a response."""
    page = open_page(f"{stack.url}/docs")
    page.get_by_role("table").last.get_by_role("link", name="queue-full").click()
    expect(page.get_by_role("heading")).to_have_text(ProblemType.QUEUE_FULL.title)
    page.get_by_role("link", name="All calls and problems").click()
    expect(page).to_have_url(f"{stack.url}/docs")
