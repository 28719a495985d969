"""infra.lab.bench.scale: efficiency by hand; the network's fallback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.lab.bench.drain import Drain
from infra.lab.bench.errors import BenchError
from infra.lab.bench.network import Network
from infra.lab.bench.plan import short_plan
from infra.lab.bench.scale import ScaleBenchmark, without_servers
from infra.lab.bench.stages import Stages
from infra.lab.bench.usage import WORKER_CHILD, WORKER_PARENT
from tests.support.servers import REPOSITORY

_STAGES = Stages(batches=1, images=1, sizes={}, queued=0, stages={}, handover=0)


def _drain(workers: int, rate: float, worker_cores: float, idle: float) -> Drain:
    cores = {WORKER_PARENT: 0.0, WORKER_CHILD: worker_cores, "s3": 0.3}
    return Drain(workers, rate, cores, idle, _STAGES)


@pytest.mark.parametrize(
    ("drain", "efficiency"),
    [
        (_drain(1, 100, 1.0, 0.7), 1.0),
        (_drain(2, 200, 2.0, 1.5), 1.0),  # cores enough, each worker as fast as one alone
        (_drain(2, 150, 1.5, 2.0), 0.75),  # half a core waited for a server, though there were idle ones
        (_drain(2, 150, 1.5, 0.0), 1.0),  # the servers took half a core: counted out
        (_drain(2, 150, 1.6, 0.1), 0.88),  # an image costs more, and a tenth of a core waited
        (_drain(4, 150, 1.5, 0.0), 1.0),
    ],
)
def test_efficiency_without_servers_by_hand(drain: Drain, efficiency: float) -> None:
    """Cores that servers took do not count; more CPU time an image and waiting beside an idle core do."""
    assert without_servers(_drain(1, 100, 1.0, 0.7), drain) == pytest.approx(efficiency, abs=0.005)


def test_more_workers_than_the_memory_holds() -> None:
    """They are not started."""
    scale = ScaleBenchmark(
        short_plan(), None, workers=10**6, cores=2, network=Network("127.0.0.1"), say=print
    )
    with pytest.raises(BenchError, match=r"The workers may take .* Choose a smaller number with --scale"):
        scale.run()


def test_without_the_programs_everything_is_on_loopback(tmp_path: Path) -> None:
    """The network says what is missing, and places commands where they are."""
    lines = (
        "from infra.lab.bench.network import enter_network; network = enter_network()",
        "print(network.address, network.place(1, ['worker']), network.trouble)",
    )
    output = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.startswith("127.0.0.1 ['worker'] ")
    assert "unshare" in output
