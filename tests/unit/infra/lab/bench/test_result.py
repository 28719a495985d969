"""infra.lab.bench: the JSON of a benchmark, what is shown of it, and the run in the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from matplotlib.figure import Figure

from core.settings import Settings
from infra.lab.bench import plots
from infra.lab.bench.plan import short_plan
from infra.lab.bench.result import FORMAT, BenchmarkResult
from infra.lab.bench.settings import used_settings
from infra.lab.bench.tables import print_tables
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
    """It has every key of today's result and no other."""
    assert re.search(r"^`format` is (\d+)\.", _PAGE, flags=re.MULTILINE)[1] == str(FORMAT)  # type: ignore[index]
    run = dict(_RUN)
    assert run.pop("format") == FORMAT
    assert not set(_differences(run, BenchmarkResult))
    assert run["settings"].keys() == used_settings(Settings(), short_plan(), None, 2).keys()


def _typed(value: Any, kind: Any) -> Any:
    """Return JSON as the type that it was made of."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{name: _typed(each, hints[name]) for name, each in value.items()})
    if get_origin(kind) is dict:
        return {name: _typed(each, get_args(kind)[1]) for name, each in value.items()}
    if get_origin(kind) is tuple:
        return tuple(_typed(each, get_args(kind)[0]) for each in value)
    return value


@pytest.fixture
def published() -> BenchmarkResult:
    """The run in the documentation, whose workers ran int8 weights."""
    run = {name: value for name, value in _RUN.items() if name != "format"}
    result = _typed(run, BenchmarkResult)
    assert isinstance(result, BenchmarkResult)
    return result


def test_the_tables_show_the_limit_of_both_weights(
    published: BenchmarkResult, capsys: pytest.CaptureFixture[str]
) -> None:
    """In images/s and in CPU time, beside what the pipeline takes."""
    print_tables(published)
    throughput, cpu = capsys.readouterr().out.split("CPU time, ms an image")
    assert "baseline, int8 " in throughput
    assert "baseline, float, not run" in throughput
    lines = cpu.splitlines()
    assert "(int8, float: baseline)" in lines[0]
    assert lines[1].split()[-3:] == ["all", "int8", "float"]
    limits = published.sizes["720p"].baselines
    assert lines[2].split()[-2:] == [f"{limits[name].cpu_ms.median:.2f}" for name in ("int8", "float")]


def test_the_page_shows_the_tables_of_the_published_run(
    published: BenchmarkResult, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `bench` prints them, but for spaces at the ends of lines."""
    print_tables(published)
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    tables = printed[printed.index("Throughput") :].strip()
    assert tables in _PAGE
    assert tables.count("\n") > 50


@pytest.mark.parametrize("draw", [plots._throughput, plots._cpu])
def test_the_plots_show_the_limit_of_both_weights(draw: Any, published: BenchmarkResult) -> None:
    """Each has a name, which the legend shows."""
    axes = Figure().subplots()
    draw(published, axes)
    shown = axes.get_legend_handles_labels()[1]
    assert [title for title in shown if "baseline" in title] == ["baseline, int8", "baseline, float"]


@pytest.mark.parametrize("engine", ["float", "int8", "tensorflow"])
def test_the_settings_name_what_the_workers_run(engine: str) -> None:
    """TensorFlow, too, though its baseline is the float model's."""
    settings = Settings.model_validate({"engine": engine})
    used = used_settings(settings, short_plan(), None, 1)
    assert used["engine"] == engine
