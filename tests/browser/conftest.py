"""A headless Chromium, and pages in it that may complain of nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

_ARGUMENTS = [
    "--no-sandbox",  # Chromium refuses its sandbox to root, and CI runs as root
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP lan.test 127.0.0.1",  # an address that is no loopback to browsers
    "--use-fake-device-for-media-stream",  # a camera that shows a green test picture
    "--use-fake-ui-for-media-stream",  # which every page may use without a person to ask
]


# One for the module, not for the session: Playwright's event loop would be in the way of other tests' own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium; without one skip on a laptop, fail in CI."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("No Chromium here; CI must show the page in a real browser.")
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser, stack: Any) -> Iterator[Callable[..., Page]]:
    """Open the page in a fresh context; at the end, the browser must have logged no complaint."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def remember(message: ConsoleMessage) -> None:
        # Chromium itself logs every rejected request, which some tests cause. Its advice on forms is verbose.
        is_complaint = message.type in {"error", "warning"} or message.text.startswith("[DOM]")
        if is_complaint and not message.text.startswith("Failed to load resource"):
            complaints.append(message.text)

    def open_one(url: str = stack.url, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", remember)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{url}/")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []
