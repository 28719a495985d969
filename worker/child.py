"""The worker's child process: what it holds, and the function that the parent calls in it."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.engine import Engine, LiteRtEngine
from core.ledger import JobStore, connect
from core.objects import ObjectStore
from core.settings import Settings
from worker.classify import Classifier, Item, Result

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


@dataclass
class _Process:
    """What this process has loaded: the engine before the fork, the classifier after it."""

    engine: Engine | None = None
    classifier: Classifier | None = None


_process = _Process()


def load_engine(settings: Settings) -> None:
    """Load the model, in the parent: children inherit it by the fork, so a new one is ready at once.

    Raises:
        ModelError: the model folder is incomplete or altered, or LiteRT cannot load the model.
    """
    _process.engine = LiteRtEngine(settings.model_dir)


def start(settings: Settings) -> None:
    """Open this child's own connections. Those of the parent must not be shared across the fork."""
    _die_with_parent()
    if _process.engine is None:
        load_engine(settings)
    jobs = JobStore(connect(settings.redis_url.get_secret_value()), retention_hours=settings.retention_hours)
    _process.classifier = Classifier(_process.engine, jobs, ObjectStore(settings))  # type: ignore[arg-type]


def run_batch(items: Sequence[Item]) -> list[Result]:
    """Classify and settle one batch; see `Classifier.run`."""
    if _process.classifier is None:
        raise RuntimeError("the worker's child got a batch before it was started")
    return _process.classifier.run(items)


def _die_with_parent() -> None:
    """Ask the kernel to end this process when its parent is gone, however that ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
