"""Signing in to the page with an API key, in a real browser in front of a stack that asks for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from infra.lab.stack import Stack
from tests.support.page import PHONE_WIDTH, card_of, choose, expect_classified, expect_count, picture, sign_in
from tests.support.prefix_proxy import prefix_proxy
from tests.support.servers import small_api

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def key(locked_stack: Stack) -> str:
    """A key with the scopes that the page needs."""
    return locked_stack.make_key("office", "ingest", "read")


def test_a_key_is_asked_for_and_opens_the_page(open_page: OpenPage, locked_stack: Stack, key: str) -> None:
    """Nothing but the form is shown before; after it pictures are classified, also when it is reopened."""
    page = open_page(locked_stack.url)
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.get_by_role("button", name="Choose pictures")).to_be_hidden()
    sign_in(page, key)
    expect(page.get_by_text("Signed in as office")).to_be_visible()
    choose(page, picture("a.jpg"))
    expect_classified(page, "a.jpg")
    with page.context.expect_page() as opened:
        card_of(page, "a.jpg").locator(".picture-link").click()
    assert opened.value.evaluate("document.contentType") == "image/jpeg"
    page.reload()
    expect(page.get_by_role("button", name="Choose pictures")).to_be_visible()
    expect(page.locator("#sign-in")).to_be_hidden()


def test_scripts_cannot_read_the_key(open_page: OpenPage, locked_stack: Stack, key: str) -> None:
    """The cookie is for the browser alone, the form is emptied, and nothing is kept elsewhere."""
    page = open_page(locked_stack.url)
    sign_in(page, key)
    (cookie,) = page.context.cookies()
    assert (cookie["value"], cookie["httpOnly"], cookie["sameSite"]) == (key, True, "Strict")
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert page.locator("#key").input_value() == ""
    assert key not in page.url


def test_a_wrong_key_gets_the_servers_sentence(open_page: OpenPage, locked_stack: Stack, key: str) -> None:
    """It stands below the field, and the next try can succeed."""
    page = open_page(locked_stack.url)
    page.get_by_label("API key").fill("ws_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("unknown, revoked or expired")
    expect(page.locator("#work")).to_be_hidden()
    sign_in(page, key)


def test_a_key_that_lacks_a_scope_is_named(open_page: OpenPage, locked_stack: Stack) -> None:
    """The page names the scope at once, and so does an upload."""
    page = open_page(locked_stack.url)
    sign_in(page, locked_stack.make_key("reader", "read"))
    expect(page.locator("#notice")).to_contain_text("The key reader lacks the scope ingest")
    choose(page, picture("a.jpg"))
    expect(card_of(page, "a.jpg").locator(".sentence")).to_contain_text("the scope 'ingest'")


def test_signing_out_shows_nothing_to_the_next_person(
    open_page: OpenPage, locked_stack: Stack, key: str
) -> None:
    """Pictures are gone from the page, the cookie from the browser."""
    page = open_page(locked_stack.url)
    sign_in(page, key)
    choose(page, picture("a.jpg"))
    expect_classified(page, "a.jpg")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)
    assert page.context.cookies() == []


def test_pictures_wait_for_a_key_that_was_lost(open_page: OpenPage, locked_stack: Stack, key: str) -> None:
    """When the cookie is gone in the middle of the work, nothing fails: after signing in again it goes on."""
    page = open_page(locked_stack.url)
    sign_in(page, key)
    page.context.clear_cookies()
    choose(page, picture("a.jpg"), picture("b.jpg", seed=1))
    expect(page.locator("#sign-in-hint")).to_contain_text("Your pictures wait here")
    sign_in(page, key)
    expect_classified(page, "a.jpg")
    expect_classified(page, "b.jpg")
    expect_count(page, "failed", 0)


def test_the_page_of_another_site_can_do_nothing(open_page: OpenPage, locked_stack: Stack, key: str) -> None:
    """Signed in here, a person's browser neither sends the cookie from there nor signs in or out for it."""
    page = open_page(locked_stack.url, bypass_csp=True)  # The other site's page has a policy of its own.
    sign_in(page, key)
    page.goto(locked_stack.url.replace("127.0.0.1", "lan.test") + "/livez")  # another site to the browser
    send = (
        "([url, method]) => fetch(url, {method, mode: 'no-cors', credentials: 'include'}).then(r => r.type)"
    )
    with page.expect_request(f"{locked_stack.url}/v1/images/bulk") as sent:
        page.evaluate(send, [f"{locked_stack.url}/v1/images/bulk", "POST"])
    response = sent.value.response()
    assert response is not None
    assert response.status in {401, 403}
    assert "cookie" not in sent.value.all_headers()
    page.goto(locked_stack.url)
    expect(page.get_by_text("Signed in as office")).to_be_visible()


def test_the_form_fits_a_phone(open_page: OpenPage, locked_stack: Stack, key: str) -> None:
    """Nothing is wider than the screen, before and after, with a long name too."""
    page = open_page(locked_stack.url, viewport={"width": PHONE_WIDTH, "height": 740}, is_mobile=True)
    width = "document.documentElement.scrollWidth"
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate(width) == PHONE_WIDTH
    sign_in(page, locked_stack.make_key("n" * 64, "ingest", "read"))
    assert page.evaluate(width) == PHONE_WIDTH


def test_a_password_manager_finds_a_username(open_page: OpenPage, locked_stack: Stack, key: str) -> None:
    """Hidden, so that the browser stores the key under it; without it Chromium's console complains."""
    page = open_page(locked_stack.url)
    field = page.locator("#sign-in-form input[autocomplete=username]")
    expect(field).to_be_hidden()
    expect(field).to_have_value("wastestream")


def test_works_from_the_keyboard(open_page: OpenPage, locked_stack: Stack, key: str) -> None:
    """The field has the focus when the page opens, and Enter sends it."""
    page = open_page(locked_stack.url)
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Choose pictures")).to_be_focused()


def test_the_page_works_below_a_prefix(
    open_page: OpenPage, locked_stack: Stack, key: str, tmp_path: Path
) -> None:
    """Behind a proxy that is trusted: every address is below it, and so is the cookie's path."""
    environment = locked_stack.variables() | {"WASTESTREAM_TRUSTED_PROXIES": "1"}
    with (
        small_api(environment, tmp_path, places=8, waiting=8) as port,
        prefix_proxy(port, "/waste") as address,
    ):
        page = open_page(address)
        sign_in(page, key)
        choose(page, picture("a.jpg"))
        expect_classified(page, "a.jpg")
        link = card_of(page, "a.jpg").locator(".picture-link").get_attribute("href")
        assert link is not None
        assert link.startswith("/waste/v1/jobs/")
        (cookie,) = page.context.cookies()
        assert cookie["path"] == "/waste"
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_focused()
        assert page.context.cookies() == []
