"""Every response that a test of this folder gets from the application in its process fits the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask, Response, request

from tests.support.contract import Seen, contract


@pytest.fixture(autouse=True)
def _responses_fit_the_contract(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    process, violations = Flask.process_response, []

    def observe(app: Flask, response: Response) -> Response:
        response = process(app, response)
        if request.endpoint != "pages.static":
            seen = Seen.of(
                request.method, request.path, response.status_code, response.headers, response.get_data()
            )
            violations.extend(contract().violations(seen))
        return response

    monkeypatch.setattr(Flask, "process_response", observe)
    yield
    assert violations == []
