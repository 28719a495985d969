"""Addresses at which the API needs keys, and requests of other sites where it needs none."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from api.auth.key_cache import KeyCache, settings_key
from api.auth.policy import check_address
from core.errors import SettingsError
from core.ids import new_job_id
from core.redis.api_keys import KeyStore, Scope
from core.redis.job_store import JobStore
from core.settings import Settings
from tests.support.calls import OWN_PAGE, assert_problem, post_image, post_jpegs


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.10", "::", "belt.example"])  # noqa: S104
def test_an_address_that_others_reach_needs_a_key(settings: Settings, keys: KeyStore, host: str) -> None:
    """The sentence says how to get one; with one, or told so, it listens, but never to nobody."""
    there = settings.model_copy(update={"host": host})
    cache = KeyCache(keys)
    with pytest.raises(SettingsError, match=rf"listen on {host}.*keys create.*AUTH=off"):
        check_address(there, cache)
    check_address(there.model_copy(update={"auth": "off"}), cache)
    hashed = there.model_copy(update={"admin_key_sha256": "0" * 64})
    check_address(hashed, KeyCache(keys, settings_key(hashed)))
    assert_problem(post_image(create_app(there).test_client()), 401, "needs an API key")
    keys.create("k", [Scope.ADMIN])
    check_address(there, KeyCache(keys))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_none(settings: Settings, keys: KeyStore, host: str) -> None:
    """It says in the log that it is open."""
    check_address(settings.model_copy(update={"host": host}), KeyCache(keys))


def test_keys_can_be_demanded_and_waived(settings: Settings, keys: KeyStore) -> None:
    """`required` asks though there is none, `off` does not though there is."""
    demanding = settings.model_copy(update={"auth": "required"})
    assert_problem(post_image(create_app(demanding).test_client()), 401, "needs an API key")
    keys.create("k", [Scope.READ])
    waiving = create_app(settings.model_copy(update={"auth": "off"})).test_client()
    assert waiving.get("/v1/jobs/none", headers={"Host": "belt.example"}).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1:8000"])
def test_what_is_open_answers_to_own_names_only(client: FlaskClient, host: str) -> None:
    """A page whose name was made to lead to this machine can use nothing."""
    assert_problem(client.get(f"/v1/jobs/{new_job_id()}", headers={"Host": host}), 403, "own names")
    for own in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000", "belt.localhost"):
        assert client.get("/v1/jobs/none", headers={"Host": own}).status_code == 404


def test_what_is_open_takes_nothing_from_other_sites(client: FlaskClient, jobs: JobStore) -> None:
    """A form of theirs that a browser sends is rejected; the page's own calls and programs' are not."""
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert_problem(post_jpegs(client, ["a.jpg"], headers), 403, "another site")
    assert jobs.pending() == 0
    for headers in (OWN_PAGE, {"Sec-Fetch-Site": "same-origin"}, {}):
        assert post_image(client, **headers).status_code == 202
