"""Which models the workers run, as they report it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

_FIELD: Final = "runs:"


class Running(NamedTuple):
    """What a worker runs: `engine` is "float", "int8" or "tensorflow", `model` the id that results name."""

    engine: str
    model: str


def reported(running: Running) -> dict[str, float]:
    """Return what a worker adds to its report: numbers only, so the name stands in the field."""
    return {f"{_FIELD}{running.engine}:{running.model}": 1.0}


def running_models(reports: Mapping[str, Mapping[str, float]]) -> Counter[Running]:
    """Count the workers of each model.

    Args:
        reports: by worker, of `core.redis.job_store.JobStore.worker_reports`.
    """
    fields = (field for report in reports.values() for field in report if field.startswith(_FIELD))
    return Counter(Running(*field.removeprefix(_FIELD).split(":", 1)) for field in fields)
