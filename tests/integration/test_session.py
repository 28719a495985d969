"""The page's session: signing in with a key, and the cookie that keeps it."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.auth.policy import COOKIE
from core.redis.api_keys import KeyStore, Scope
from core.redis.job_store import JobStore
from core.settings import Settings
from tests.support.calls import OWN_PAGE, assert_problem, bearer, post_image
from tests.support.servers import wait_until


def sign_in(client: FlaskClient, token: str, **options: Any) -> TestResponse:
    """Sign in as the page does."""
    return client.post("/session", json={"key": token}, headers=OWN_PAGE, **options)


def test_signing_in_keeps_the_key_from_scripts_and_other_sites(client: FlaskClient, keys: KeyStore) -> None:
    """The cookie is HttpOnly and SameSite=Strict, lasts 30 days at most, and works as the key does."""
    _, token = keys.create("page", [Scope.READ, Scope.INGEST])
    response = sign_in(client, f" {token}\n")
    key = {"name": "page", "scopes": ["ingest", "read"]}
    assert response.get_json() == {"required": True, "key": key, "cameras": None}
    attributes = set(response.headers["Set-Cookie"].split("; "))
    assert attributes >= {f"{COOKIE}={token}", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=2592000"}
    assert "Secure" not in attributes
    assert response.headers["Cache-Control"] == "no-store"
    assert client.get("/session").get_json()["key"]["name"] == "page"
    assert post_image(client, **OWN_PAGE).status_code == 202


@pytest.mark.parametrize("told_by", ["the connection", "the browser"])
def test_over_https_the_cookie_is_secure(client: FlaskClient, keys: KeyStore, told_by: str) -> None:
    """Also when a proxy ends the encryption and only the browser knows."""
    _, token = keys.create("page", [Scope.READ], expires_ms=time.time_ns() // 1_000_000 + 60_000)
    if told_by == "the connection":
        response = client.post("/session", json={"key": token}, base_url="https://localhost")
    else:
        response = client.post("/session", json={"key": token}, headers={"Origin": "https://localhost"})
    cookie = response.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert 50 <= int(re.findall(r"Max-Age=(\d+)", cookie)[0]) <= 60  # no longer than the key


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:81"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "ftp://localhost"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-site"},
        {},
    ],
)
def test_another_sites_page_cannot_use_the_cookie(
    client: FlaskClient, keys: KeyStore, jobs: JobStore, headers: dict[str, str]
) -> None:
    """With any request that it makes the browser send; nor can it sign in or out. A key in a header works."""
    _, token = keys.create("page", [Scope.ADMIN])
    sign_in(client, token)
    assert_problem(post_image(client, **headers), 403, "another site")
    if headers:
        assert_problem(client.post("/session", json={"key": token}, headers=headers), 403, "another site")
        assert_problem(client.delete("/session", headers=headers), 403, "another site")
    assert jobs.pending() == 0
    assert post_image(client, **headers, **bearer(token)).status_code == 202


def test_signing_out_takes_the_cookie_back(client: FlaskClient, keys: KeyStore) -> None:
    """The browser has no key any more."""
    sign_in(client, keys.create("page", [Scope.READ])[1])
    signed_out = client.delete("/session", headers=OWN_PAGE).get_json()
    assert signed_out == {"required": True, "key": None, "cameras": None}
    assert client.get_cookie(COOKIE) is None
    assert client.get("/v1/jobs/none").status_code == 401


def test_a_revoked_keys_cookie_is_worthless(client: FlaskClient, keys: KeyStore) -> None:
    """The session says so, and calls are rejected."""
    sign_in(client, keys.create("page", [Scope.READ])[1])
    keys.revoke("page")
    wait_until(lambda: client.get("/session").get_json()["key"] is None, "the session to end", 10)
    assert_problem(client.get("/v1/jobs/none"), 401, "revoked")


def test_a_right_key_signs_in_whatever_others_tried(client: FlaskClient, keys: KeyStore) -> None:
    """Wrong keys from the same address, such as a proxy's, keep nobody out."""
    _, token = keys.create("page", [Scope.READ])
    for _ in range(30):
        assert_problem(sign_in(client, "ws_wrong"), 401, "unknown, revoked or expired")
    assert sign_in(client, token).status_code == 200


@pytest.mark.parametrize("body", ['{"key": "\\ud800"}', '{"key": "ws_\\udcff_\\ud800"}'])
def test_a_key_of_broken_characters_is_rejected(settings: Settings, body: str) -> None:
    """Also to the key from the settings, which is compared with everything that comes."""
    hashed = settings.model_copy(update={"admin_key_sha256": "0" * 64})
    client = create_app(hashed).test_client()
    response = client.post("/session", data=body, content_type="application/json", headers=OWN_PAGE)
    assert_problem(response, 400, "half of a surrogate pair")


@pytest.mark.parametrize("body", [0, [], {}, {"key": 1}, {"key": " "}, {"key": "x" * 300}])
def test_what_is_no_sign_in_is_rejected(client: FlaskClient, body: Any) -> None:
    """400 or 413, with the form of a sign-in."""
    assert_problem(client.post("/session", json=body, headers=OWN_PAGE), 400, '{"key": "ws_..."}')
    assert_problem(
        client.post("/session", json={"key": 5000 * "x"}, headers=OWN_PAGE), 413, "more than 4,096 bytes"
    )
