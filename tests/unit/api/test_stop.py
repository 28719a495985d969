"""Time limits of the API's stop: each part waits longer than the parts that it stops."""

from __future__ import annotations

import re

import yaml

from api.server.gunicorn_worker import GRACEFUL_TIMEOUT, STOP_SECONDS
from tests.support.servers import REPOSITORY


def test_every_part_waits_longer_than_the_part_that_it_stops() -> None:
    """A process waits for its requests, gunicorn for its processes, Compose for gunicorn."""
    text = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
    grace = yaml.safe_load(text)["services"]["api"]["stop_grace_period"]
    assert STOP_SECONDS < GRACEFUL_TIMEOUT < 30 < int(grace.removesuffix("s"))
    comment = re.search(r"running requests have (\d+) s to end, gunicorn's processes (\d+) s", text)
    assert comment is not None
    assert comment.groups() == (f"{STOP_SECONDS:.0f}", f"{GRACEFUL_TIMEOUT}")
