"""infra.lab.scaling: the tables of docs/scaling.md."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from core.settings import Settings
from infra.lab import scaling
from tests.support.servers import REPOSITORY

RUN: dict[str, Any] = json.loads((REPOSITORY / "docs" / "performance" / "run.json").read_text("utf-8"))
DOCUMENT = (REPOSITORY / "docs" / "scaling.md").read_text("utf-8")


@pytest.mark.parametrize("name", scaling.tables(RUN))
def test_the_document_has_the_tables_of_the_measured_run(name: str) -> None:
    """Every cell follows from docs/performance/run.json."""
    assert scaling.markdown(scaling.tables(RUN)[name]) in DOCUMENT


def test_the_arithmetic_by_hand() -> None:
    """One row of each table, from the run's figures."""
    used = RUN["sizes"]["720p"]["workloads"]["single"]["cpu_ms"]
    worker = used["worker parent"]["median"] + used["worker child"]["median"]
    row = scaling.needs(RUN, "single")[4]
    assert row[:2] == ["1,000", "5,000"]
    assert int(row[2]) - 1 < 5000 * worker / 800 <= int(row[2])
    worker_gb, api_gb = (
        sum(process["pss"] for process in RUN["processes"][name]["memory"].values()) / 1e9
        for name in ("worker", "api")
    )
    memory = int(row[2]) * worker_gb + int(row[3]) * api_gb
    assert float(row[4].removesuffix(" GB")) == pytest.approx(memory, abs=0.051)
    assert row[6] == f"{5 * used['redis']['median']:.0%}"
    assert scaling.space(RUN)[2][1:3] == ["15.1 GB", "177.8"]  # 50/s * 500 bytes * 604,800 s; 16 GB
    total = sum(one["median"] for role, one in used.items() if role not in {"load generator", "supervisor"})
    assert scaling.cost(RUN)[1][1] == f"{total / 3.6:.2f}"
    assert row[8] == f"{5 * total * 24:,.1f}"


def test_settings_and_bytes_are_those_of_the_code_and_the_documents() -> None:
    """The defaults of retention, and the bytes of a settled job that operations.md states."""
    settings = Settings()
    assert settings.retention_hours == settings.image_retention_hours == scaling.RETENTION_HOURS
    operations = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    stated = re.search(r"A pending job takes 1\.4 kB, a settled one (0\.\d) kB", operations)
    assert stated
    assert float(stated[1]) * 1000 == scaling.SETTLED_BYTES
