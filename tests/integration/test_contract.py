"""Clients that know nothing but the OpenAPI document, in front of the whole running stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from infra.lab.stack import Stack
from tests.support.servers import REPOSITORY

_EXAMPLES = sorted((REPOSITORY / "docs" / "examples").glob("*.jpg"))


@pytest.fixture(scope="module")
def api(locked_stack: Stack) -> httpx.Client:
    """A client with a key that may do everything."""
    key = locked_stack.make_key("contract", "admin")
    return httpx.Client(
        base_url=locked_stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False
    )


@pytest.fixture(scope="module")
def jobs(api: httpx.Client) -> list[str]:
    """The ids of classified jobs."""
    answers = [
        api.post("/v1/images?wait=30", content=path.read_bytes(), headers={"X-Camera-Id": "belt-1"})
        for path in _EXAMPLES
    ]
    return [str(answer.json()["id"]) for answer in answers]


def test_schemathesis_finds_no_fault(api: httpx.Client, jobs: list[str]) -> None:
    """Valid input is accepted, invalid input is rejected, and no response has what is not documented."""
    program = Path(sys.executable).with_name("schemathesis")
    config = REPOSITORY / "tests" / "support" / "schemathesis" / "schemathesis.toml"
    done = subprocess.run(
        [program, "--config-file", config, "run", f"{api.base_url}/openapi.json"],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "API_KEY": api.headers["Authorization"].removeprefix("Bearer "),
            "JOB_IDS": " ".join(jobs),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
