"""The worker's child process: what it holds, and the function that the parent calls in it."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.memory import keep_freed_memory
from core.model.engine import Engine, LiteRtEngine, choose_weights
from core.model.manifest import SAVED_MODEL_NAME, load_manifest
from core.parent_death import die_with_parent
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.workers import Running
from core.settings import Settings
from core.storage import ObjectStore
from worker.classify import PUT_BACK, Classifier, Item, Result
from worker.engines import tensorflow as tensorflow_engine
from worker.stats import Spent
from worker.transport.epoch import Epoch

_MAX_KEPT: Final = 64 * 1024 * 1024
"""Bytes of freed memory that a child keeps: a batch of images."""


@dataclass
class _Process:
    """What this process has loaded: the engine before the fork, the classifier after it."""

    engine: Engine | None = None
    classifier: Classifier | None = None


_process = _Process()

epoch = Epoch()
"""The parent's latest connection to the broker."""


def load_engine(settings: Settings) -> None:
    """Load the model, in the parent: children inherit it by the fork, so a new one is ready at once.

    TensorFlow does not survive a fork, so for that engine the parent only checks, and each child loads.

    Raises:
        ModelError: the model folder is incomplete or altered, or the engine cannot load the model.
    """
    if settings.engine == "tensorflow":
        tensorflow_engine.check(settings.model_dir)
    else:
        weights = choose_weights(settings.engine, settings.model_dir)
        _process.engine = LiteRtEngine(settings.model_dir, weights=weights)


def running(settings: Settings) -> Running:
    """Return which model this worker runs; `load_engine` comes first."""
    if _process.engine is None:  # TensorFlow, which only the child has loaded
        return Running(settings.engine, load_manifest(settings.model_dir, check=SAVED_MODEL_NAME).model_id)
    return Running(_process.engine.manifest.weights, _process.engine.manifest.model_id)


def start(settings: Settings) -> None:
    """Open this child's own connections. Those of the parent must not be shared across the fork."""
    die_with_parent()
    keep_freed_memory(_MAX_KEPT)
    _limit_memory(settings.child_memory)
    if settings.engine == "tensorflow":
        _process.engine = tensorflow_engine.TensorFlowEngine(settings.model_dir)
    elif _process.engine is None:
        load_engine(settings)
    jobs = JobStore(connect(settings.redis_url.get_secret_value()), retention_hours=settings.retention_hours)
    _process.classifier = Classifier(
        _process.engine,  # type: ignore[arg-type]
        jobs,
        ObjectStore(settings),
        timeout=settings.batch_timeout,
    )


def run_batch(items: Sequence[Item], of_epoch: int) -> tuple[list[Result], Spent]:
    """Classify and settle one batch; see `Classifier.run`. Return also where the time went.

    Args:
        items: the jobs.
        of_epoch: when the batch was made; one of an earlier connection is left alone.
    """
    if _process.classifier is None:
        raise RuntimeError("the worker's child got a batch before it was started")
    if of_epoch != epoch.current:
        return [PUT_BACK] * len(items), Spent()
    return _process.classifier.run(items), _process.classifier.spent


def _limit_memory(mebibytes: int) -> None:
    """Make allocations beyond this fail, so that a hostile image ends its decode and not the machine.

    RLIMIT_DATA counts the memory that a process may write to. RLIMIT_AS also counts addresses that nothing
    lies behind, 300 MB of them once the S3 client's threads run, so it would have to be set by guesswork.
    """
    most = mebibytes << 20
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
