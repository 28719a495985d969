"""docs/gateway.md has every member of the configuration and every metric."""

from __future__ import annotations

import re

from tests.support.servers import REPOSITORY
from wastestream.gateway.config import Camera, Config, SpoolConfig
from wastestream.gateway.overview import METRICS

_TEXT = (REPOSITORY / "docs" / "gateway.md").read_text(encoding="utf-8")
_FIRST_CELLS = set(re.findall(r"^\| `([\w.]+)", _TEXT, flags=re.MULTILINE))


def test_every_member_and_metric_is_documented_and_no_other() -> None:
    """A reader finds each in the first column of a table."""
    members = Config.model_fields.keys() - {"spool"} | Camera.model_fields.keys()
    spool = {f"spool.{name}" for name in SpoolConfig.model_fields}
    assert members | spool | METRICS.keys() == _FIRST_CELLS
