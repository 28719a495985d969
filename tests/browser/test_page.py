"""The page in a real browser, in front of the whole running stack."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import FilePayload, Page, Request, Route, expect

from infra.lab.stack import Stack
from tests.support.page import (
    PHONE_WIDTH,
    TIMEOUT,
    card_of,
    carry,
    choose,
    expect_classified,
    expect_count,
    expect_failed,
    picture,
    sign_in,
)

OpenPage = Callable[..., Page]


def test_says_what_it_is_and_takes(open_page: OpenPage) -> None:
    """Before anything is dropped the page says what it does and which formats it takes."""
    page = open_page()
    expect(page.locator("header")).to_contain_text("biodegradable or non-biodegradable waste")
    expect(page.locator("#drop-hint")).to_contain_text("JPEG, PNG or WebP, up to 10 MB")
    expect(page.locator("#results")).to_be_hidden()


def test_chosen_pictures_are_classified(open_page: OpenPage) -> None:
    """Every chosen picture gets a card with its prediction; the counts agree."""
    page = open_page()
    choose(page, picture("red.jpg"), picture("green.jpg", 1), picture("grey.jpg", 2))
    for name in ("red.jpg", "green.jpg", "grey.jpg"):
        expect_classified(page, name)
    expect_count(page, "all", 3)
    expect_count(page, "classified", 3)
    expect_count(page, "failed", 0)
    expect(page.locator("#said")).not_to_be_empty(timeout=TIMEOUT)


@pytest.mark.parametrize(("kind", "name"), [("drop", "carried.jpg"), ("paste", "pasted carried.jpg")])
def test_dropped_and_pasted_pictures_are_classified(open_page: OpenPage, kind: str, name: str) -> None:
    """Dropping and pasting do as choosing does."""
    page = open_page()
    carry(page, kind, picture("carried.jpg"))
    expect_classified(page, name)


def test_the_bytes_decide_not_the_name(open_page: OpenPage) -> None:
    """A PNG and a WebP called .jpg are classified."""
    page = open_page()
    choose(page, picture("png.jpg", image_format="PNG"), picture("webp.jpg", image_format="WEBP"))
    expect_classified(page, "png.jpg")
    expect_classified(page, "webp.jpg")


def test_the_card_leads_to_the_stored_picture(open_page: OpenPage) -> None:
    """The picture on a card links to the very bytes that the server stored."""
    page = open_page()
    sent = picture("linked.jpg")
    choose(page, sent)
    expect_classified(page, "linked.jpg")
    address = card_of(page, "linked.jpg").locator("a").get_attribute("href")
    assert address is not None
    assert page.request.get(page.url.rstrip("/") + address).body() == sent["buffer"]


def test_a_text_file_called_jpg_gets_a_sentence(open_page: OpenPage) -> None:
    """A file that is not an image fails alone, with the server's sentence."""
    page = open_page()
    text: FilePayload = {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"not an image at all"}
    choose(page, text, picture("good.jpg"))
    expect_failed(page, "notes.jpg", "not a JPEG, PNG or WebP image")
    expect_classified(page, "good.jpg")
    expect_count(page, "failed", 1)


def test_a_broken_picture_gets_its_reason(open_page: OpenPage) -> None:
    """Damage that only decoding reveals settles the job `failed`; the card has the reason."""
    page = open_page()
    whole = picture("cut.jpg")
    choose(page, {**whole, "buffer": whole["buffer"][: len(whole["buffer"]) // 2]})
    expect_failed(page, "cut.jpg", "send it again")


def test_too_large_is_said_before_sending(open_page: OpenPage, tmp_path: Path) -> None:
    """A file over the limit is rejected here, without a request."""
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(b"\xff\xd8\xff" + bytes(11 * 1024**2))
    page = open_page()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.locator("#files").set_input_files(huge)
    expect_failed(page, "huge.jpg", "at most 10 MB")
    assert not any("/v1/images" in url for url in sent)


def test_an_outage_is_said_and_outlived(open_page: OpenPage) -> None:
    """Without a network the page says so, keeps the picture, and sends it once when the network is back."""
    page = open_page()
    page.context.set_offline(True)
    choose(page, picture("patient.jpg"))
    expect(page.locator("#notice")).to_contain_text("offline", timeout=TIMEOUT)
    page.context.set_offline(False)
    expect_classified(page, "patient.jpg")
    expect(page.locator("#notice")).to_be_hidden()


def test_an_upload_whose_answer_is_lost_makes_one_job(open_page: OpenPage) -> None:
    """The retry of an upload that did arrive brings back the same job."""
    page = open_page()
    job_ids: list[Any] = []

    def lose_the_first_answer(route: Route) -> None:
        answer = route.fetch()
        job_ids.append(answer.json()["id"])
        if len(job_ids) == 1:
            route.abort("connectionreset")
        else:
            route.fulfill(response=answer)

    page.route("**/v1/images", lose_the_first_answer)
    choose(page, picture("once.jpg"))
    expect_classified(page, "once.jpg")
    assert len(job_ids) == 2
    assert job_ids[0] == job_ids[1]


def test_a_server_that_is_not_ready_is_tried_again(open_page: OpenPage) -> None:
    """A 503 with Retry-After shows the server's sentence, then the upload goes through."""
    page = open_page()
    rejections = iter([503])

    def reject_once(route: Route) -> None:
        if next(rejections, None) is None:
            route.continue_()
            return
        route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "Storage is away."})

    page.route("**/v1/images", reject_once)
    choose(page, picture("late.jpg"))
    expect(page.locator("#notice")).to_contain_text("Storage is away.", timeout=TIMEOUT)
    expect_classified(page, "late.jpg")


def test_counts_choose_what_is_shown_and_clear_empties(open_page: OpenPage) -> None:
    """A count shows only its cards; Clear removes everything and leaves the page usable."""
    page = open_page()
    choose(page, picture("one.jpg"), {"name": "bad.jpg", "mimeType": "image/jpeg", "buffer": b"no image"})
    expect_count(page, "classified", 1)
    expect_count(page, "failed", 1)
    page.get_by_role("button", name="1 failed").click()
    expect(card_of(page, "one.jpg")).to_be_hidden()
    expect(card_of(page, "bad.jpg")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#results")).to_be_hidden()
    expect(page.locator(".card")).to_have_count(0)
    choose(page, picture("two.jpg"))
    expect_count(page, "classified", 1)


def test_all_tabs_share_one_stream_of_results(open_page: OpenPage) -> None:
    """And ask for no job meanwhile; when the tab that reads it is closed, another goes on."""
    first = open_page()
    second = first.context.new_page()
    second.goto(first.url)
    asked: list[str] = []
    first.context.on("request", lambda request: asked.extend(request.url.split("/v1/")[1:]))
    for page in (first, second):
        choose(page, picture("first.jpg"))
        expect_classified(page, "first.jpg")
    for page in (first, second):
        page.wait_for_function("import('/assets/events.js').then((events) => events.isLive())")
    del asked[:]
    for page in (first, second):
        choose(page, *(picture(f"{number}.jpg", number) for number in range(6)))
    for page in (first, second):
        expect_count(page, "classified", 7)
    assert set(asked) == {"images"}
    first.close()
    choose(second, picture("last.jpg"))
    expect_classified(second, "last.jpg")
    assert sum(path.startswith("events") for path in asked) == 1
    assert not any(path.startswith("jobs") for path in asked)


SILENT = """
  let streams = 0;
  window.EventSource = class extends EventSource {
    isSilent = streams++ === 0;
    addEventListener(type, listener) {
      if (type !== "result" || !this.isSilent) super.addEventListener(type, listener);
    }
  };
"""


def test_a_stream_that_is_open_but_silent_is_opened_again(open_page: OpenPage) -> None:
    """As after sleep, or behind a router that forgot the connection: one picture waits, and then none."""
    page = open_page()
    page.add_init_script(SILENT)
    page.reload()
    asked: list[str] = []
    page.on("request", lambda request: asked.extend(request.url.split("/v1/")[1:]))
    choose(page, picture("first.jpg"))
    expect_classified(page, "first.jpg")
    live = "import('/assets/events.js').then((events) => events.isLive())"
    page.wait_for_function(live)
    choose(page, picture("second.jpg", 2))
    with page.expect_request("**/v1/events?*", timeout=TIMEOUT):
        expect_classified(page, "second.jpg")
    page.wait_for_function(live)
    del asked[:]
    choose(page, picture("third.jpg", 3))
    expect_classified(page, "third.jpg")
    assert asked == ["images"]


def test_many_pictures(open_page: OpenPage) -> None:
    """A batch of many is sent a few at a time, and every one is settled."""
    page = open_page()
    maximum = 0
    under_way: set[Request] = set()

    def began(request: Request) -> None:
        nonlocal maximum
        under_way.add(request)
        maximum = max(maximum, len(under_way))

    def ended(request: Request) -> None:
        under_way.discard(request)

    page.on("request", began)
    page.on("requestfinished", ended)
    choose(page, *(picture(f"{number}.jpg", number) for number in range(60)))
    expect_count(page, "classified", 60)
    assert maximum < 12  # five lanes; the browser's reports of what has ended come late


def test_the_camera_is_asked_for_on_click_only(open_page: OpenPage) -> None:
    """The camera opens on a click, takes pictures on a click or by itself, and closes."""
    page = open_page()
    expect(page.locator("#camera")).to_be_hidden()
    page.get_by_role("button", name="Use camera").click()
    expect(page.get_by_role("button", name="Take a picture")).to_be_focused(timeout=TIMEOUT)
    page.get_by_role("button", name="Take a picture").click()
    expect_count(page, "classified", 1)
    page.get_by_label("Seconds between pictures").fill("1")
    page.get_by_label("Take one every").check()
    expect_count(page, "classified", 2)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#camera")).to_be_hidden()
    assert page.locator("#video").evaluate("video => video.srcObject") is None


def test_works_on_a_plain_http_address(open_page: OpenPage, locked_stack: Stack) -> None:
    """Without https, pictures are classified, and a notice explains why there is no camera."""
    key = locked_stack.make_key("plain-http", "ingest", "read")
    page = open_page(locked_stack.url.replace("127.0.0.1", "lan.test"))
    assert page.evaluate("window.isSecureContext") is False
    sign_in(page, key)
    choose(page, picture("lan.jpg"))
    expect_classified(page, "lan.jpg")
    page.get_by_role("button", name="Use camera").click()
    expect(page.locator("#notice")).to_contain_text("pages over https")


def test_fits_a_phone(open_page: OpenPage) -> None:
    """Nothing is wider than a phone's screen: empty, with results, with the camera open."""
    page = open_page(viewport={"width": PHONE_WIDTH, "height": 740}, is_mobile=True, has_touch=True)
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == PHONE_WIDTH
    choose(page, picture("a picture with a long name " + "x" * 60 + ".jpg"), picture("short.jpg"))
    expect_count(page, "classified", 2)
    assert page.evaluate(width) == PHONE_WIDTH
    page.get_by_role("button", name="Use camera").click()
    expect(page.locator("#camera")).to_be_visible(timeout=TIMEOUT)
    assert page.evaluate(width) == PHONE_WIDTH


def test_works_from_the_keyboard(open_page: OpenPage) -> None:
    """The first press of Tab reaches the button that chooses pictures, and Enter opens its dialog."""
    page = open_page()
    expect(page.get_by_role("button", name="Choose pictures")).to_be_visible()
    with page.expect_file_chooser() as dialog:
        page.keyboard.press("Tab")
        # Not to_be_focused(): that asks for the window's focus too, which a headless browser may not have.
        assert page.evaluate("document.activeElement.id") == "choose"
        page.keyboard.press("Enter")
    dialog.value.set_files([picture("keyed.jpg")])
    expect_classified(page, "keyed.jpg")


def test_cameras_of_gateways_are_shown(open_page: OpenPage, stack: Stack) -> None:
    """With their states, silent ones too; without a gateway there is no list."""
    now = datetime.now(UTC).isoformat()
    name = f"belt-{uuid.uuid4().hex[:8]}"
    report = {"gateway": "0123456789abcdef", "silent_after": 15, "spooled": 7, "hours": []}
    with httpx.Client(base_url=stack.url, trust_env=False) as http:
        http.post(
            f"/v1/cameras/{name}-a/report", json={**report, "last_frame_at": now, "detail": "h264 1920x1080"}
        )
        http.post(f"/v1/cameras/{name}-b/report", json=report)
    page = open_page(viewport={"width": PHONE_WIDTH, "height": 800})
    live, silent = (page.locator("#gateways tr", has_text=f"{name}-{letter}") for letter in "ab")
    expect(live).to_contain_text("live", timeout=TIMEOUT)
    expect(live).to_contain_text("7 waiting")
    expect(live).to_contain_text("h264 1920x1080")
    expect(silent).to_contain_text("silent")
    expect(silent).to_contain_text("no frame yet")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
