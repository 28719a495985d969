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
    """It lacks the keys that the page names, and no other."""
    assert re.search(r"^`format` is (\d+)\.", _PAGE, flags=re.MULTILINE)[1] == str(FORMAT)  # type: ignore[index]
    run = dict(_RUN)
    assert run.pop("format") == FORMAT
    missing = re.search(r"`([^`]+)` and `([^`]+)` are missing in it", " ".join(_PAGE.split()))
    assert missing is not None
    assert {"settings.engine", *_differences(run, BenchmarkResult)} == set(missing.groups())
    assert "engine" not in run["settings"]


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
def both_weights() -> BenchmarkResult:
    """The run in the documentation as it would be with 8-bit weights, in half the CPU time."""
    run = json.loads(json.dumps(_RUN))
    del run["format"]
    for size in run["sizes"].values():
        halved = {name: each / 2 for name, each in size["baseline"]["cpu_ms"].items()}
        size["baselines"] = {"float": size["baseline"], "int8": {**size["baseline"], "cpu_ms": halved}}
    result = _typed(run, BenchmarkResult)
    assert isinstance(result, BenchmarkResult)
    return result


def test_the_tables_show_the_limit_of_both_weights(
    both_weights: BenchmarkResult, capsys: pytest.CaptureFixture[str]
) -> None:
    """In images/s and in CPU time, beside what the pipeline takes."""
    print_tables(both_weights)
    throughput, cpu = capsys.readouterr().out.split("CPU time, ms an image")
    assert "baseline, float" in throughput
    assert "baseline, int8, not run" in throughput
    lines = cpu.splitlines()
    assert "(float, int8: baseline)" in lines[0]
    assert lines[1].split()[-3:] == ["all", "float", "int8"]
    limit = both_weights.sizes["720p"].baseline.cpu_ms.median
    assert lines[2].split()[-2:] == [f"{limit:.2f}", f"{limit / 2:.2f}"]


@pytest.mark.parametrize("draw", [plots._throughput, plots._cpu])
def test_the_plots_show_the_limit_of_both_weights(draw: Any, both_weights: BenchmarkResult) -> None:
    """Each has a name, which the legend shows."""
    axes = Figure().subplots()
    draw(both_weights, axes)
    shown = axes.get_legend_handles_labels()[1]
    assert [title for title in shown if "baseline" in title] == ["baseline, float", "baseline, int8"]


@pytest.mark.parametrize("engine", ["float", "int8", "tensorflow"])
def test_the_settings_name_what_the_workers_run(engine: str) -> None:
    """TensorFlow, too, though its baseline is the float model's."""
    settings = Settings.model_validate({"engine": engine})
    used = used_settings(settings, short_plan(), None, 1)
    assert used["engine"] == engine
