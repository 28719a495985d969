"""A person's steps on the page, and the expected views."""

from __future__ import annotations

import base64
import re
from typing import Final

from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.support import images
from tests.support.images import encoded

TIMEOUT: Final = 30_000
"""Maximum milliseconds of a step on a busy machine."""

PHONE_WIDTH: Final = 360
"""CSS pixels; few phones are narrower."""

CARRY: Final = """
([kind, files]) => {
  const carried = new DataTransfer();
  for (const { name, mimeType, base64 } of files) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    carried.items.add(new File([bytes], name, { type: mimeType }));
  }
  const options = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent(kind, { ...options, clipboardData: carried })
    : new DragEvent(kind, { ...options, dataTransfer: carried });
  document.querySelector("#drop").dispatchEvent(event);
}
"""


def picture(name: str, seed: int = 0, image_format: str = "JPEG") -> FilePayload:
    """Make a picture, as the browser would take it from a file called `name`."""
    content = encoded(images.pattern(640, 480, seed=seed), image_format)
    return {"name": name, "mimeType": "image/jpeg", "buffer": content}


def choose(page: Page, *files: FilePayload) -> None:
    """Pick files, as the button's dialog does."""
    page.locator("#files").set_input_files(list(files))


def carry(page: Page, kind: str, *files: FilePayload) -> None:
    """Let a `drop` or `paste` bring files."""
    parts = [
        {
            "name": file["name"],
            "mimeType": file["mimeType"],
            "base64": base64.b64encode(file["buffer"]).decode(),
        }
        for file in files
    ]
    page.evaluate(CARRY, [kind, parts])


def card_of(page: Page, name: str) -> Locator:
    """Return the card of the picture called `name`."""
    return page.locator(".card", has=page.locator(f'.name[title="{name}"]'))


def expect_classified(page: Page, name: str) -> None:
    """Wait until the card of `name` shows a whole prediction."""
    card = card_of(page, name)
    expect(card).to_have_attribute("data-state", "classified", timeout=TIMEOUT)
    expect(card.locator(".label")).to_have_text(re.compile("^(Biodegradable|Non-biodegradable)$"))
    expect(card.locator(".probability")).to_have_text(re.compile(r"^>?\d{2}%$"))
    expect(card.locator(".took")).to_have_text(re.compile(r"^in \d+(\.\d)? (ms|s)$"))
    expect(card.locator(".picture-image")).to_be_visible(timeout=TIMEOUT)


def expect_failed(page: Page, name: str, sentence: str) -> None:
    """Wait until the card of `name` says `sentence`."""
    expect(card_of(page, name)).to_have_attribute("data-state", "failed", timeout=TIMEOUT)
    expect(card_of(page, name).locator(".sentence")).to_contain_text(sentence)


def expect_count(page: Page, name: str, number: int) -> None:
    """Wait until the count called `name` is `number`."""
    expect(page.locator(f"#count-{name}")).to_have_text(str(number), timeout=TIMEOUT)


def sign_in(page: Page, key: str) -> None:
    """Type an API key into the form and send it."""
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#work")).to_be_visible()
