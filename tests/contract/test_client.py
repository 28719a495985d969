"""Records and errors of the client, compared with the schemas and problem types of the server."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import wastestream
from api.http.problem_types import ProblemType
from api.schemas import jobs, ledger
from core.jobs import JobState
from wastestream.problems import ApiError, problem_of


def _classes(base: type[ApiError]) -> list[type[ApiError]]:
    return [each for child in base.__subclasses__() for each in (child, *_classes(child))]


def test_each_type_of_problem_has_its_class() -> None:
    """And each class its type."""
    assert {each.slug for each in _classes(ApiError)} - {""} == {kind.slug for kind in ProblemType}
    for kind in ProblemType:
        error = problem_of({"type": kind.uri, "title": kind.title, "status": kind.status}, kind.status)
        assert (type(error).slug, str(error)) == (kind.slug, kind.title)


def test_each_class_says_its_status() -> None:
    """As its documentation begins."""
    for kind in ProblemType:
        error = problem_of({"type": kind.uri}, kind.status)
        assert (type(error).__doc__ or "").startswith(f"{kind.status:d}: "), kind


@pytest.mark.parametrize(
    ("record", "schema"),
    [
        (wastestream.Job, jobs.QueuedJob),
        (wastestream.Prediction, jobs.Prediction),
        (wastestream.Place, jobs.Place),
        (wastestream.Counts, ledger.Sums),
    ],
)
def test_records_have_the_members_of_the_schemas(record: type[Any], schema: type[BaseModel]) -> None:
    """A member that the server adds is not forgotten in the client."""
    assert {field.name for field in dataclasses.fields(record)} == set(schema.model_fields)


def test_states_are_those_of_the_server() -> None:
    """Types for type checkers, too."""
    assert set(get_args(wastestream.State)) == {state.value for state in JobState}
