"""Calls of the API's application in this process, and checks of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import httpx
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.http.problem_types import ProblemType
from tests.support.images import jpeg

JPEG: Final = {"Content-Type": "image/jpeg"}
OWN_PAGE: Final = {"Origin": "http://localhost"}


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a key."""
    return {"Authorization": f"Bearer {token}"}


def post_image(
    client: FlaskClient, data: bytes | None = None, /, *, query: str = "", **headers: str
) -> TestResponse:
    """Send one image; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(
        f"/v1/images{query}",
        data=jpeg() if data is None else data,
        headers={**JPEG, **named},
    )


def post_form(
    client: FlaskClient,
    files: Sequence[tuple[str, bytes, str]],
    headers: Mapping[str, str] = MappingProxyType({}),
) -> TestResponse:
    """Send files, each with name, content and media type, in a bulk upload."""
    # Written as real clients do: Werkzeug's leaves out the line that ends the header of an empty part.
    form = httpx.Request("POST", "http://api", files=[("images", file) for file in files])
    return client.post(
        "/v1/images/bulk",
        data=form.read(),
        headers={"Content-Type": form.headers["Content-Type"], **headers},
    )


def post_jpegs(
    client: FlaskClient, names: Sequence[str], headers: Mapping[str, str] = MappingProxyType({})
) -> TestResponse:
    """Send an image under each file name in a bulk upload."""
    return post_form(client, [(name, jpeg(seed), "image/jpeg") for seed, name in enumerate(names)], headers)


def assert_problem(response: TestResponse, status: int, says: str) -> dict[str, Any]:
    """Check that the response is this problem, with the request's id; return it."""
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    problem: dict[str, Any] = response.get_json(force=True)
    assert problem["status"] == status
    assert problem["type"] in {kind.uri for kind in ProblemType if kind.status == status}
    assert says in problem["detail"]
    assert problem["request_id"] == response.headers["X-Request-ID"]
    return problem
