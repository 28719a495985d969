"""`wastestream soak`, for a few seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.servers import REPOSITORY, wait_until


def test_a_short_soak_loses_nothing(tmp_path: Path) -> None:
    """A stack of its own, killed as often as the time allows; the files say what the exit code says."""
    figures, report = tmp_path / "soak.json", tmp_path / "soak.md"
    options = ["--minutes", "0.15", "--seed", "1", "--json", str(figures), "--report", str(report)]
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "soak", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in {0, 3}, done.stdout + done.stderr  # 3: a busy machine recovers late
    result = json.loads(figures.read_text())
    assert (result["late"] > 0) == (done.returncode == 3)
    assert result["good"]
    assert (result["lost"], result["doubled"], result["rejected"], result["balanced"]) == (0, 0, 0, True)
    assert result["accepted"] == result["settled"] > 50
    assert result["faults"]
    assert "images accepted" in report.read_text()


def test_a_short_soak_of_the_gateway_loses_nothing(tmp_path: Path) -> None:
    """Killed, cut off and frozen; every picture that arrives is compared with its time."""
    figures = tmp_path / "soak.json"
    options = ["--cameras", "2", "--minutes", "0.1", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "soak", *options, "--json", str(figures)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(figures.read_text())
    assert result["received"] == result["accepted"] == result["sampled"] > 20
    assert (result["faults"]["gateway killed"], result["doubled"]) == (5, 0)


def _of(folder: Path) -> list[psutil.Process]:
    """Return the processes that have something in `folder` on their command line."""
    processes = psutil.process_iter(["cmdline"])
    return [
        process for process in processes if any(str(folder) in word for word in process.info["cmdline"] or ())
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_a_soak_that_is_ended_leaves_no_stack(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Neither when it is asked to end nor when it is killed."""
    with subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "soak", "--minutes", "5"],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as soak:
        wait_until(lambda: len(_of(tmp_path)) >= 2, "the supervisor and a server", seconds=60)
        soak.send_signal(number)
        assert soak.wait(60) == code
    wait_until(lambda: not _of(tmp_path), "the stack to end", seconds=60)
