"""Calls of the API's application in this process, and checks of its answers."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.http.problem_types import ProblemType
from tests.support.images import jpeg


def post_image(
    client: FlaskClient, data: bytes | None = None, /, *, query: str = "", **headers: str
) -> TestResponse:
    """Send one image; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(
        f"/v1/images{query}",
        data=jpeg() if data is None else data,
        headers={"Content-Type": "image/jpeg", **named},
    )


def assert_problem(response: TestResponse, status: int, says: str) -> dict[str, Any]:
    """Check that the response is this problem, with the request's id; return it."""
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    problem: dict[str, Any] = response.get_json(force=True)
    assert problem["status"] == status
    assert problem["type"] in {kind.uri for kind in ProblemType if kind.status == status}
    assert says in problem["detail"]
    assert problem["request_id"] == response.headers["X-Request-ID"]
    return problem
