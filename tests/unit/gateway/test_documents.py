"""docs/gateway.md has every member of the configuration and every metric; examples of all pages are right."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.support.servers import REPOSITORY
from wastestream.gateway.config import Camera, Config, SpoolConfig, make_config
from wastestream.gateway.overview import METRICS

_TEXT = (REPOSITORY / "docs" / "gateway.md").read_text(encoding="utf-8")
_FIRST_CELLS = set(re.findall(r"^\| `([\w.]+)", _TEXT, flags=re.MULTILINE))


def test_every_member_and_metric_is_documented_and_no_other() -> None:
    """A reader finds each in the first column of a table."""
    members = Config.model_fields.keys() - {"spool"} | Camera.model_fields.keys()
    spool = {f"spool.{name}" for name in SpoolConfig.model_fields}
    assert members | spool | METRICS.keys() == _FIRST_CELLS


_EXAMPLES = [
    pytest.param(text, id=f"{page.stem} {number}")
    for page in sorted((REPOSITORY / "docs").rglob("*.md"))
    for number, text in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
    if text.startswith(("server:", "cameras:"))
]


@pytest.mark.parametrize("text", _EXAMPLES)
def test_configurations_in_documents_are_valid(text: str) -> None:
    """Those of every page."""
    assert make_config(yaml.safe_load(text)).cameras
