"""`bench` in its short form, on a whole stack: complete, true to what was sent, and gone afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from PIL import Image

from infra.cli.main import cli
from infra.lab.bench.errors import BenchError, BrokenPipelineError
from infra.lab.bench.load import Address, Collected, Load, Paced, Sequential, Uploaded, measure, singles
from infra.lab.bench.stack import HOST, Stack
from infra.lab.bench.stages import StageClock
from infra.lab.bench.usage import Snapshot, snapshot
from tests.support.pictures import jpeg
from tests.support.servers import REPOSITORY, wait_until
from tests.support.stream import BROKEN

_MARK = "BENCH_TEST_MARK"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes by their environment")


class Command:
    """One `bench`, whose processes and files can be found."""

    def __init__(self, folder: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.plots = folder / "plots"
        self.json = folder / "figures.json"
        self._errors = folder / "stderr"
        self._output = folder / "stdout"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it in the background."""
        command = [sys.executable, "-m", "infra.cli", "bench", "--plots", str(self.plots)]
        environment = {**os.environ, "TMPDIR": str(self.temporary), _MARK: self.mark}
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, "--json", str(self.json), *arguments],
                cwd=REPOSITORY,
                env=environment,
                stdout=output,
                stderr=errors,
            )
        return self.process

    @property
    def output(self) -> str:
        """What it printed."""
        return self._output.read_text()

    @property
    def errors(self) -> str:
        """What it said while it worked."""
        return self._errors.read_text()

    def alive(self) -> list[psutil.Process]:
        """Return every process that it started and that still runs."""
        return [one for one in psutil.process_iter() if self._is_ours(one)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """A command, ended with all it started if the test fails."""
    made = Command(tmp_path)
    yield made
    for process in made.alive():
        process.kill()
    if made.process:
        made.process.wait()


def test_the_short_form_measures_everything(command: Command) -> None:
    """Every figure of every section is there and can be true; every key is documented; nothing stays."""
    assert command.start("--short").wait(timeout=300) == 0, command.errors
    wait_until(lambda: command.alive() == [], "every process to end")
    assert list(command.temporary.iterdir()) == []
    found = json.loads(command.json.read_text())
    _check(found)
    documented = (REPOSITORY / "docs" / "performance.md").read_text()
    assert {key for key in _keys(found) if f"`{key}`" not in documented} == set()
    for title in ("Throughput", "CPU time", "Latency", "Workers: batches", "Cost", "Processes", "Sizing"):
        assert title in command.output
    plots = sorted(command.plots.iterdir())
    assert [plot.stem for plot in plots] == ["cpu", "growth", "latency", "stages", "throughput", "workers"]
    for plot in plots:
        with Image.open(plot) as image:
            assert image.format == "PNG"


def test_ctrl_c_leaves_nothing(command: Command) -> None:
    """Interrupted while a stack is under load, it stops the stack, removes what it stored, and exits 130."""
    process = command.start("--short")
    wait_until(lambda: "limit, single" in command.errors, f"a load; {command.errors}", 120)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, command.errors
    assert "Traceback" not in command.errors
    wait_until(lambda: command.alive() == [], "every process to end")
    assert list(command.temporary.iterdir()) == []
    assert not command.json.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--json", "{}/no/file.json"], 2, "is not a folder"),
        (["--plots", "{}/text/plots"], 2, "is not a folder"),
        (["--images", "{}/nowhere"], 2, "does not exist"),
        (["--seconds", "0"], 2, "not in the range"),
        (["--images", "{}"], 1, "No images in"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: list[str], code: int, sentence: str) -> None:
    """Each is named, with what is wrong with it, before anything starts."""
    (tmp_path / "text").write_text("no folder")
    result = CliRunner().invoke(cli, ["bench", *(word.format(tmp_path) for word in arguments)])
    assert (result.exit_code, sentence in re.sub(r"\W+", " ", result.output)) == (code, True), result.output


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack as `bench` starts it."""
    with Stack(tmp_path_factory.mktemp("bench") / "stack", workers=1) as stack:
        yield stack
    assert not stack.folder.path.exists()


def _look() -> Snapshot:
    return snapshot({})


def test_a_load_sees_every_image_answered(running: Stack) -> None:
    """What the load counts, the ledger and the workers' own reports agree."""
    address = Address(HOST, running.port)
    clock = StageClock(running.jobs, workers=1)
    requests = singles([jpeg(seed) for seed in range(4)])
    loads: list[Load] = [
        Collected(address, requests, clients=2, window=16),
        Paced(address, requests, rate=40, seed=1),
        Sequential(address, requests, least=3),
    ]
    windows = [measure(load, _look, 0.1, 0.4) for load in loads]
    accepted = sum(window.accepted for window in windows)
    assert all(0 < window.images <= window.accepted for window in windows)
    assert all(len(load.settled) == window.accepted for load, window in zip(loads, windows, strict=True))
    running.check_books(accepted)
    stages = clock.lap()
    assert stages.images == accepted
    assert sum(stages.sizes.values()) == stages.batches
    assert all(spent > 0 for spent in stages.stages.values())
    with pytest.raises(BrokenPipelineError, match=r"does not balance: .* were answered with 202"):
        running.check_books(accepted + 1)


def test_an_image_that_fails_ends_the_measurement(running: Stack) -> None:
    """Figures of a pipeline that does not classify would mean nothing."""
    load = Collected(Address(HOST, running.port), singles([BROKEN]), clients=1, window=4)
    with pytest.raises(BrokenPipelineError, match="ended as failed instead of classified"):
        measure(load, _look, 0.1, 0.2)


def test_a_refused_upload_ends_the_measurement(running: Stack) -> None:
    """The API's own sentence is passed on."""
    load = Uploaded(Address(HOST, running.port), singles([b"no image"]), clients=1)
    with pytest.raises(BrokenPipelineError, match=r"with 415 instead of 202: .*not a JPEG"):
        measure(load, _look, 0.1, 0.2)


def test_a_stack_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the last lines of the log."""
    monkeypatch.setenv("WASTESTREAM_MODEL_DIR", str(tmp_path / "no-model"))
    with pytest.raises(BenchError, match=r"(?s)did not start.*no-model"), Stack(tmp_path / "stack", 1):
        pass


def _check(found: dict[str, Any]) -> None:
    """Check what must hold on every machine, however slow."""
    (size,) = found["sizes"].values()
    assert size["limit"]["images_per_second"]["median"] > 0
    assert set(size["loads"]) == {"single", "bulk", "awaited"}
    roles = {"supervisor", "redis", "s3", "api", "worker parent", "worker child", "load"}
    for load in size["loads"].values():
        assert load["images_per_second"]["median"] > 0
        assert set(load["cpu_ms"]) == roles
        stages = load["stages"]
        assert sum(stages["sizes"].values()) == stages["batches"] > 0
        assert set(stages["stages"]) == {"fetch", "decode", "model", "settle"}
    assert set(found["latency"]) == {"idle", "50%"}
    for answering in found["latency"].values():
        latency = answering["latency"]
        assert latency["samples"] > 0
        assert 0 < latency["p50"]["median"] <= latency["p95"]["median"] <= latency["p99"]["median"]
    assert set(found["accepting"]) == {"single", "bulk"}
    assert [one["pending"] for one in found["growth"]["waiting"]] == [0, 200, 1_000, 0]
    assert 0 < found["growth"]["finished_bytes"] < found["growth"]["pending_bytes"]
    assert [one["workers"] for one in found["scale"]] == [found["settings"]["workers"]]
    for process in found["processes"].values():
        assert process["start_seconds"]["median"] > 0
        assert all(held["rss"] >= held["pss"] >= held["uss"] > 0 for held in process["memory"].values())
    assert len(found["sizing"]["needs"]) > 0


def _keys(found: Any) -> Iterator[str]:
    """Yield every key, except those that are numbers or shares."""
    if isinstance(found, dict):
        for key, value in found.items():
            if not key[0].isdigit():
                yield key
            yield from _keys(value)
    elif isinstance(found, list):
        for value in found:
            yield from _keys(value)
