"""The page's HTML and headers."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.routes import pages
from core.image_header import MAX_BYTES, MEDIA_TYPES


@pytest.fixture
def client() -> FlaskClient:
    """Return a client of an application that has the page and nothing else."""
    app = Flask(__name__)
    app.register_blueprint(pages.blueprint)
    return app.test_client()


class _Elements(HTMLParser):
    """Collects each element's name and attributes, and the text inside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.inline += data.strip()


@pytest.fixture
def elements(client: FlaskClient) -> _Elements:
    """Read the page's elements."""
    parser = _Elements()
    parser.feed(client.get("/").text)
    return parser


def test_nothing_is_inline(elements: _Elements) -> None:
    """No script, style or handler stands in the HTML, so that the policy can forbid them all."""
    attributes = {name for _, attributes in elements.elements for name in attributes}
    assert elements.inline == ""
    assert not any(name == "style" or name.startswith("on") for name in attributes)


def test_everything_comes_from_this_server(client: FlaskClient, elements: _Elements) -> None:
    """Every file that the page loads is one of its own and exists; none comes from elsewhere."""
    loaded = {
        attributes[name]
        for tag, attributes in elements.elements
        for name in ("src", "href")
        if tag in {"script", "link", "img"} and attributes.get(name)
    }
    assert {path.rpartition(".")[2] for path in loaded if path} == {"js", "css", "svg"}
    for path in loaded:
        assert path
        assert path.startswith("/assets/")
        with client.get(path) as response:
            assert response.status_code == 200


@pytest.mark.parametrize("path", ["/", "/assets/page.js"])
def test_headers(client: FlaskClient, path: str) -> None:
    """Page and assets carry a policy without exceptions, nosniff, and send no referrer."""
    with client.get(path) as response:
        headers = response.headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_every_module_of_the_script_is_preloaded(client: FlaskClient, elements: _Elements) -> None:
    """So browsers fetch all modules at once; each import is one of them."""
    preloaded = {
        attributes["href"]
        for tag, attributes in elements.elements
        if tag == "link" and attributes.get("rel") == "modulepreload"
    }
    imported: set[str] = set()
    for path in (*preloaded, "/assets/page.js"):
        with client.get(str(path)) as response:
            names = re.findall(
                r'^import .* from "\./(\w+\.js)";$', response.get_data(as_text=True), re.MULTILINE
            )
        imported |= {f"/assets/{name}" for name in names}
    assert imported == preloaded


def test_limits_are_those_of_the_api(client: FlaskClient) -> None:
    """Formats and size that the page states come from the checks that the API makes."""
    html = client.get("/").text
    assert f'data-max-bytes="{MAX_BYTES}"' in html
    assert all(media_type in html for media_type in MEDIA_TYPES.values())
