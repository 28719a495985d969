"""Clients of the last release go on working: the document of now against the one that is kept."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from api.openapi.components import resolved
from tests.support.compatibility import breaking_changes
from tests.support.contract import contract
from tests.support.servers import REPOSITORY

_KEPT = REPOSITORY / "docs" / "openapi"


def _number(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def test_nothing_that_a_client_of_the_last_release_uses_has_changed() -> None:
    """Each sentence names a break; docs/api.md, "Versions", says what to do instead."""
    last = max(_KEPT.glob("*.json"), key=lambda path: _number(path.stem))
    old = json.loads(last.read_text(encoding="utf-8"))
    changes = breaking_changes(resolved(old), contract().resolved)
    assert changes == [], f"against {last.name}:\n" + "\n".join(changes)


def test_each_release_keeps_its_document() -> None:
    """`python -m api.openapi --json > docs/openapi/VERSION.json` is a step of the release."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.search(rf"^## {re.escape(version)} - \d", changes, flags=re.MULTILINE)
    first = min(_number(path.stem) for path in _KEPT.glob("*.json"))
    if released and _number(version) >= first:
        assert (_KEPT / f"{version}.json").exists()


Change = Callable[[dict[str, Any]], Any]


def _image(document: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = document["paths"]["/v1/images"]["post"]
    return described


def _schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    described: dict[str, Any] = document["components"]["schemas"][name]
    return described


def _require_camera(document: dict[str, Any]) -> None:
    for parameter in _image(document)["parameters"]:
        parameter["required"] |= parameter["name"] == "X-Camera-Id"


def _narrow_wait(document: dict[str, Any]) -> None:
    next(each for each in _image(document)["parameters"] if each["name"] == "wait")["schema"]["maximum"] = 5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda new: new["paths"].pop("/v1/ledger"), "The path /v1/ledger is gone."),
        (lambda new: new["paths"]["/session"].pop("delete"), "DELETE /session is gone."),
        (lambda new: _image(new)["responses"].pop("422"), "POST /v1/images no longer responds with 422."),
        (
            lambda new: _image(new)["responses"]["202"]["headers"].pop("Location"),
            "POST /v1/images: the response 202 no longer has the header field Location.",
        ),
        (
            lambda new: _image(new)["requestBody"]["content"].pop("image/webp"),
            "POST /v1/images: the body can no longer be image/webp.",
        ),
        (_require_camera, "POST /v1/images: the header parameter X-Camera-Id is now required."),
        (
            _narrow_wait,
            "POST /v1/images: the query parameter wait has a narrower maximum: 5 instead of 30.0.",
        ),
        (lambda new: _schema(new, "Job")["properties"].pop("error"), "Job: the member error is gone."),
        (
            lambda new: _schema(new, "Prediction")["required"].remove("label"),
            "Prediction: the member label may now be absent.",
        ),
        (
            lambda new: _schema(new, "JobState")["enum"].append("paused"),
            "JobState can now be 'paused'.",
        ),
        (
            lambda new: _schema(new, "Prediction")["properties"]["review"].update(type="string"),
            "Prediction.review can now be string.",
        ),
        (
            lambda new: _schema(new, "SignIn")["required"].append("otp"),
            "SignIn: the member otp is now required.",
        ),
        (lambda new: new["components"]["examples"].pop("queue-full"), "The problem queue-full is gone."),
        (
            lambda new: _image(new).update({"x-scope": "admin"}),
            "POST /v1/images needs the scope admin instead of ingest.",
        ),
    ],
)
def test_a_break_is_named(change: Change, sentence: str) -> None:
    """One of each kind, in a sentence."""
    new = json.loads(json.dumps(contract().resolved))
    change(new)
    assert breaking_changes(contract().resolved, new) == [sentence]


def test_additions_break_nothing() -> None:
    """A path, an optional parameter, a member of a response, a type of problem."""
    new = json.loads(json.dumps(contract().resolved))
    new["paths"]["/v1/new"] = new["paths"]["/v1/ledger"]
    _image(new)["parameters"].append({"name": "new", "in": "query", "required": False, "schema": {}})
    _schema(new, "Job")["properties"]["new"] = {"type": "string"}
    _schema(new, "Job")["required"].append("new")
    new["components"]["examples"]["new"] = {}
    assert breaking_changes(contract().resolved, new) == []
