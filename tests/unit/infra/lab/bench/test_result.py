"""infra.lab.bench.result: the JSON of a benchmark, and the page and the run in the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from infra.lab.bench.result import FORMAT, BenchmarkResult
from tests.support.servers import REPOSITORY

_PAGE = (REPOSITORY / "docs" / "performance.md").read_text(encoding="utf-8")
_RUN = json.loads((REPOSITORY / "docs" / "performance" / "run.json").read_text(encoding="utf-8"))


def _differences(value: Any, kind: Any, place: str = "") -> Iterator[str]:
    """Yield the keys that a value has and its type has not, or the other way round; `*` for any key."""
    if is_dataclass(kind) and isinstance(kind, type):
        names = {field.name for field in fields(kind)}
        yield from (f"{place}{name}" for name in names ^ value.keys())
        for name in names & value.keys():
            yield from _differences(value[name], get_type_hints(kind)[name], f"{place}{name}.")
    elif get_origin(kind) is dict:
        for each in value.values():
            yield from _differences(each, get_args(kind)[1], f"{place}*.")
    elif get_origin(kind) is tuple:
        for each in value:
            yield from _differences(each, get_args(kind)[0], place)


def test_the_run_in_the_documentation_has_this_format() -> None:
    """It lacks the keys that the page names, and no other."""
    assert re.search(r"^`format` is (\d+)\.", _PAGE, flags=re.MULTILINE)[1] == str(FORMAT)  # type: ignore[index]
    run = dict(_RUN)
    assert run.pop("format") == FORMAT
    missing = re.search(r"`([^`]+)` and `([^`]+)` are missing in it", " ".join(_PAGE.split()))
    assert missing is not None
    assert {"settings.engine", *_differences(run, BenchmarkResult)} == set(missing.groups())
    assert "engine" not in run["settings"]
