"""The client's errors and the server's types of problems."""

from __future__ import annotations

from api.http.problem_types import ProblemType
from wastestream.problems import ApiError, problem_of


def _classes(base: type[ApiError]) -> list[type[ApiError]]:
    return [each for child in base.__subclasses__() for each in (child, *_classes(child))]


def test_each_type_of_problem_has_its_class() -> None:
    """And each class its type."""
    assert {each.slug for each in _classes(ApiError)} - {""} >= {kind.slug for kind in ProblemType}
    for kind in ProblemType:
        error = problem_of({"type": kind.uri, "title": kind.title, "status": kind.status}, kind.status)
        assert (type(error).slug, str(error)) == (kind.slug, kind.title)


def test_each_class_says_its_status() -> None:
    """As its documentation begins."""
    for kind in ProblemType:
        error = problem_of({"type": kind.uri}, kind.status)
        assert (type(error).__doc__ or "").startswith(f"{kind.status:d}: "), kind
