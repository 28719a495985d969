"""Every type of problem in the document is provoked, and has all that the document promises."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from markupsafe import escape

from api.http.problem_types import ProblemType
from api.openapi.text import code
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.settings import Settings
from tests.conftest import environment_of, fresh_settings
from tests.support.contract import Seen, contract
from tests.support.provoke import OF_THE_SERVER, OF_UPLOADS, PROVOKE, Parts, provoke_the_server
from tests.support.servers import Server, small_api

_LATER = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


@pytest.fixture(scope="module")
def of_the_server(
    redis_server: Server, s3_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> dict[ProblemType, Seen]:
    """Responses that a real API process makes without the application."""
    settings = fresh_settings(redis_server, s3_server)
    _, token = KeyStore(connect(settings.redis_url.get_secret_value())).create("reader", [Scope.READ])
    folder = tmp_path_factory.mktemp("api")
    with small_api(environment_of(settings), folder, places=4, waiting=2) as port:
        return provoke_the_server(port, token)


def _check(kind: ProblemType, seen: Seen) -> None:
    problem = json.loads(seen.body)
    assert (seen.status, problem["type"]) == (kind.status, kind.uri), problem
    assert (problem["title"], problem["status"]) == (kind.title, kind.status)
    assert problem["detail"].endswith(".")
    assert problem["request_id"] == seen.headers["x-request-id"]
    assert seen.headers["content-type"] == "application/problem+json"
    assert (int(seen.headers.get("retry-after", "0")) > 0) is (kind.status in _LATER)
    assert contract().violations(seen) == []


@pytest.mark.parametrize("kind", PROVOKE, ids=lambda kind: kind.slug)
def test_the_application_responds_with_it(settings: Settings, kind: ProblemType) -> None:
    """Status, type, media type, `Retry-After`; and its address leads to the explanation."""
    parts = Parts(settings)
    _check(kind, PROVOKE[kind](parts))
    page = parts.client().get(kind.uri).text
    for sentence in (escape(kind.title), code(kind.meaning), code(kind.remedy)):
        assert sentence in page


@pytest.mark.parametrize("kind", OF_UPLOADS, ids=lambda kind: kind.slug)
def test_a_direct_upload_has_it(settings: Settings, kind: ProblemType) -> None:
    """Beside other uploads of its call, in a response that is a success."""
    problem = OF_UPLOADS[kind](Parts(settings))
    assert (problem["type"], problem["title"], problem["status"]) == (kind.uri, kind.title, kind.status)
    assert problem["detail"].endswith(".")


@pytest.mark.parametrize("kind", OF_THE_SERVER, ids=lambda kind: kind.slug)
def test_the_server_responds_with_it(of_the_server: dict[ProblemType, Seen], kind: ProblemType) -> None:
    """In the same form as the application."""
    _check(kind, of_the_server[kind])


def test_every_type_is_provoked() -> None:
    """One that is added fails here until it is provoked above."""
    assert {*PROVOKE, *OF_UPLOADS, *OF_THE_SERVER} == set(ProblemType)
