"""`bench` in its short form, on a whole stack: complete and correct figures, and no traces."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from PIL import Image

from infra.cli.main import cli
from infra.lab.bench.closed_loop import Sequential, UploadAndQuery, UploadOnly
from infra.lab.bench.errors import BrokenPipelineError
from infra.lab.bench.open_loop import PoissonArrivals
from infra.lab.bench.plan import short_plan
from infra.lab.bench.session import Session, open_session
from infra.lab.bench.workload import Workload, singles
from infra.lab.stack import Stack
from infra.local.errors import StackError
from tests.support.images import jpeg
from tests.support.local import Mark
from tests.support.servers import REPOSITORY, wait_until
from tests.support.stream import BROKEN

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes by their environment")


class Command:
    """One `bench`, whose processes and files can be found."""

    def __init__(self, folder: Path) -> None:
        self.mark = Mark()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.plots = folder / "plots"
        self.json = folder / "figures.json"
        self._errors = folder / "stderr"
        self._output = folder / "stdout"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it in the background."""
        command = [sys.executable, "-m", "infra.cli", "bench"]
        if "--scale" not in arguments:
            command += ["--plots", str(self.plots)]
        environment = {**os.environ, "TMPDIR": str(self.temporary), **self.mark.environment}
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
        """Its standard output."""
        return self._output.read_text()

    @property
    def errors(self) -> str:
        """Its messages about progress."""
        return self._errors.read_text()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """A command, ended with all it started if the test fails."""
    command = Command(tmp_path)
    yield command
    for process in command.mark.alive():
        process.kill()
    if command.process:
        command.process.wait()


def test_the_short_form_measures_everything(command: Command) -> None:
    """Every figure of every section is there and can be true; every key is documented; nothing stays."""
    assert command.start("--short").wait(timeout=300) == 0, command.errors
    wait_until(lambda: command.mark.alive() == [], "every process to end")
    assert list(command.temporary.iterdir()) == []
    result = json.loads(command.json.read_text())
    _check(result)
    documented = (REPOSITORY / "docs" / "performance.md").read_text()
    assert {key for key in _keys(result) if f"`{key}`" not in documented} == set()
    for title in ("Throughput", "CPU time", "Latency", "Workers: batches", "Backlog", "Processes", "Sizing"):
        assert title in command.output
    plots = sorted(command.plots.iterdir())
    assert [plot.stem for plot in plots] == ["backlog", "cpu", "latency", "stages", "throughput", "workers"]
    for plot in plots:
        with Image.open(plot) as image:
            assert image.format == "PNG"


def test_ctrl_c_leaves_nothing(command: Command) -> None:
    """Interrupted while a stack is under load, it stops the stack, removes its files, and exits 130."""
    process = command.start("--short")
    wait_until(lambda: "baseline, single" in command.errors, f"a load; {command.errors}", 120)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, command.errors
    assert "Traceback" not in command.errors
    wait_until(lambda: command.mark.alive() == [], "every process to end")
    assert list(command.temporary.iterdir()) == []
    assert not command.json.exists()


def test_scale_measures_workers_that_join(command: Command) -> None:
    """Each has a network of its own where that can be; the figures follow from each other; nothing stays."""
    command.mark.environment["WASTESTREAM_MAX_BATCH"] = "8"  # Fewer images suffice.
    process = command.start("--scale", "2", "--short")
    wait_until(lambda: "2 workers," in command.errors or process.poll() is not None, "2 workers", 300)
    if "Workers in network namespaces" in command.errors:
        wait_until(lambda: len(_networks(command)) == 4, "a namespace for the servers and each worker", 120)
    assert process.wait(timeout=300) == 0, command.errors
    wait_until(lambda: command.mark.alive() == [], "every process to end")
    assert list(command.temporary.iterdir()) == []
    result = json.loads(command.json.read_text())
    _check_scale(result)
    assert all(note.split(" (")[0] in " ".join(command.output.split()) for note in result["notes"])
    documented = (REPOSITORY / "docs" / "performance.md").read_text()
    assert {key for key in _keys(result) if f"`{key}`" not in documented} == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_of_programs_in_the_network(number: signal.Signals) -> None:
    """However `bench` ends, they end; so the kernel has nothing to keep the network for."""
    lines = (
        "from infra.lab.bench.network import enter_network",
        "from infra.lab.bench.programs import Programs",
        "network = enter_network()",
        "with Programs([network.place(place, ['sleep', '600']) for place in (1, 2)], {}) as programs:",
        "    programs.wait_until(lambda: all(each.name() == 'sleep' for each in programs.processes))",
        "    print('ready', flush=True)",
        "    programs.wait_until(lambda: False, 600)",
    )
    mark = Mark()
    with subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=REPOSITORY,
        env={**os.environ, **mark.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
    wait_until(lambda: mark.alive() == [], "every process to end")


def _networks(command: Command) -> set[int]:
    """Return the network namespaces of this process, of the command, and of the workers that have joined."""
    assert command.process
    try:
        workers = [process.pid for process in command.mark.alive() if "worker" in process.cmdline()]
        pids = ["self", command.process.pid, *workers]
        return {Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in pids} if workers else set()
    except (OSError, psutil.Error):  # One has just ended.
        return set()


def _check_scale(result: dict[str, Any]) -> None:
    """Check the figures of `bench --scale 2` that hold on every machine; there is one round."""
    alone, two = result["steps"]
    assert (alone["workers"], two["workers"]) == (1, 2)
    assert alone["efficiency"]["median"] == alone["efficiency_without_servers"]["median"] == 1
    for step in result["steps"]:
        rate = step["images_per_second"]["median"]
        spent = sum(step["cpu_ms"][role]["median"] for role in ("worker parent", "worker child"))
        assert spent * rate / 1000 == pytest.approx(step["worker_cores"]["median"])
        assert {"redis", "s3", "api", "sinks", "supervisor", "load generator"} < set(step["cpu_ms"])
        assert sum(step["stages"]["sizes"].values()) == step["stages"]["batches"] > 0
    if result["machine"]["cores_used"] < 2:
        assert two["efficiency"] is two["efficiency_without_servers"] is None
        return
    rate, rate_alone = two["images_per_second"]["median"], alone["images_per_second"]["median"]
    used, idle = two["worker_cores"]["median"], two["idle_cores"]["median"]
    wanted = 2 * alone["worker_cores"]["median"]
    assert (two["efficiency"] is None) == (wanted > used + idle)
    if two["efficiency"]:
        assert two["efficiency"]["median"] == pytest.approx(rate / rate_alone / 2)
    cores = used + min(idle, max(0, wanted - used))
    assert two["efficiency_without_servers"]["median"] == pytest.approx(
        rate / cores / rate_alone * wanted / 2
    )


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--scale", "0"], 2, "is not in the range 1 x 250"),
        (["--scale", "251"], 2, "is not in the range 1 x 250"),
        (["--scale", "2", "--plots", "{}"], 2, "draws no plots"),
        (["--json", "{}/no/file.json"], 2, "is not a folder"),
        (["--plots", "{}/text/plots"], 2, "is not a folder"),
        (["--images", "{}/nowhere"], 2, "does not exist"),
        (["--seconds", "0"], 2, "not in the range"),
        (["--images", "{}"], 1, "No images in"),
    ],
)
def test_bad_arguments_are_rejected(tmp_path: Path, arguments: list[str], code: int, sentence: str) -> None:
    """Each is named, with its fault, before anything starts."""
    (tmp_path / "text").write_text("no folder")
    result = CliRunner().invoke(cli, ["bench", *(word.format(tmp_path) for word in arguments)])
    assert (result.exit_code, sentence in re.sub(r"\W+", " ", result.output)) == (code, True), result.output


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A stack as `bench` starts it."""
    folder = tmp_path_factory.mktemp("bench") / "stack"
    with open_session(folder, 1, short_plan()) as session:
        yield session
    assert not folder.exists()


def test_a_workload_receives_every_result(session: Session) -> None:
    """The client's counts, the ledger and the workers' own reports agree."""
    requests = singles([jpeg(seed) for seed in range(4)])
    workloads: list[Workload] = [
        UploadAndQuery(session.address, requests, clients=2, window=16),
        PoissonArrivals(session.address, requests, rate=40, seed=1),
        Sequential(session.address, requests, min_samples=3),
    ]
    for workload in workloads:
        measured = session.run(workload, 0.4)
        window, stages = measured.window, measured.stages
        assert 0 < window.images <= window.accepted == len(workload.settled) == stages.images
        assert sum(stages.sizes.values()) == stages.batches
        assert all(spent > 0 for spent in stages.stages.values())
    session.check()
    counts_nothing = Session(session.stack, short_plan())
    with pytest.raises(BrokenPipelineError, match=r"does not balance: 0 images were answered with 202"):
        counts_nothing.check()


def test_an_image_that_fails_ends_the_measurement(session: Session) -> None:
    """Figures of a pipeline that does not classify would mean nothing."""
    workload = UploadAndQuery(session.address, singles([BROKEN]), clients=1, window=4)
    with pytest.raises(BrokenPipelineError, match="ended as failed instead of classified"):
        session.window(workload)


def test_a_rejected_upload_ends_the_measurement(session: Session) -> None:
    """The API's own sentence is passed on."""
    workload = UploadOnly(session.address, singles([b"no image"]), clients=1)
    with pytest.raises(BrokenPipelineError, match=r"with 415 instead of 202: .*not a JPEG"):
        session.window(workload)


def test_a_stack_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the last lines of the log."""
    monkeypatch.setenv("WASTESTREAM_MODEL_DIR", str(tmp_path / "no-model"))
    with pytest.raises(StackError, match=r"(?s)did not start.*no-model"), Stack(tmp_path / "stack", 1):
        pass


def _check(result: dict[str, Any]) -> None:
    """Check the figures that hold on every machine, however slow."""
    (size,) = result["sizes"].values()
    assert size["baseline"] in size["baselines"].values()
    assert size["baseline"]["images_per_second"]["median"] > 0
    assert set(size["workloads"]) == {"single", "bulk", "awaited"}
    roles = {"supervisor", "redis", "s3", "api", "sinks", "worker parent", "worker child", "load generator"}
    for workload in size["workloads"].values():
        assert workload["images_per_second"]["median"] > 0
        assert set(workload["cpu_ms"]) == roles
        stages = workload["stages"]
        assert sum(stages["sizes"].values()) == stages["batches"] > 0
        assert set(stages["stages"]) == {"fetch", "decode", "model", "settle"}
    assert set(result["latency"]) == {"idle", "50%"}
    for measured in result["latency"].values():
        latency = measured["latency"]
        assert latency["samples"] > 0
        assert 0 < latency["p50"]["median"] <= latency["p95"]["median"] <= latency["p99"]["median"]
    assert set(result["accepting"]) == {"single", "bulk"}
    assert [calls["pending"] for calls in result["backlog"]["waiting"]] == [0, 200, 1_000, 0]
    assert 0 < result["backlog"]["finished_bytes"] < result["backlog"]["pending_bytes"]
    assert [scaling["workers"] for scaling in result["scale"]] == [result["settings"]["workers"]]
    for process in result["processes"].values():
        assert process["start_seconds"]["median"] > 0
        assert all(part["rss"] >= part["pss"] >= part["uss"] > 0 for part in process["memory"].values())
    assert len(result["sizing"]["needs"]) > 0


def _keys(value: Any) -> Iterator[str]:
    """Yield every key, except numbers and shares."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not key[0].isdigit():
                yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)
