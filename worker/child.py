"""The worker's child process: its state, and the function that the parent calls in it."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from core import metrics
from core.memory import keep_freed_memory
from core.model.engine import Engine, LiteRtEngine, choose_weights
from core.model.manifest import SAVED_MODEL_NAME, load_manifest
from core.parent_death import die_with_parent
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.workers import Running
from core.settings import Settings
from core.storage import ObjectStore
from worker.classify import Classifier, Result, Retry
from worker.engines import tensorflow as tensorflow_engine
from worker.stats import StageTimes
from worker.transport.delivery import Item
from worker.transport.epoch import Epoch

_MAX_KEPT: Final = 64 * 1024 * 1024
"""Bytes of freed memory that a child keeps for its next batch."""


@dataclass
class _Process:
    """State of this process: the engine, loaded before the fork, and the classifier, made after it."""

    engine: Engine | None = None
    classifier: Classifier | None = None


_process = _Process()

epoch = Epoch()
"""Number of the parent's latest connection to the broker."""


def load_engine(settings: Settings) -> None:
    """Load the model in the parent. Children inherit it by the fork, so a new child is ready at once.

    TensorFlow does not survive a fork, so with that engine the parent only checks, and each child loads.

    Raises:
        ModelError: the model folder is incomplete or altered, or the engine cannot load the model.
    """
    if settings.engine == "tensorflow":
        tensorflow_engine.check(settings.model_dir)
    else:
        weights = choose_weights(settings.engine, settings.model_dir)
        _process.engine = LiteRtEngine(settings.model_dir, weights=weights)


def running(settings: Settings) -> Running:
    """Return the model that this worker runs; call `load_engine` first."""
    if _process.engine is None:  # TensorFlow, which only the child loads
        return Running(settings.engine, load_manifest(settings.model_dir, check=SAVED_MODEL_NAME).model_id)
    return Running(_process.engine.manifest.weights, _process.engine.manifest.model_id)


def start(settings: Settings) -> None:
    """Open this child's own connections; it must not use those of the parent."""
    die_with_parent()
    keep_freed_memory(_MAX_KEPT)
    _limit_memory(settings.child_memory)
    if settings.engine == "tensorflow":
        _process.engine = tensorflow_engine.TensorFlowEngine(settings.model_dir)
    elif _process.engine is None:
        load_engine(settings)
    jobs = JobStore(connect(settings.redis), retention_hours=settings.retention_hours)
    _process.classifier = Classifier(
        _process.engine,  # type: ignore[arg-type]
        jobs,
        ObjectStore(settings),
        timeout=settings.batch_timeout,
    )


@dataclass(frozen=True, slots=True)
class Returned:
    """What a batch returns: the results (see `Classifier.run`), stages' times, what the child has counted."""

    results: list[Result]
    stage_times: StageTimes
    counts: Mapping[metrics.Key, int] = field(default_factory=dict)


def run_batch(items: Sequence[Item], batch_epoch: int) -> Returned:
    """Classify and settle one batch.

    Args:
        items: the jobs.
        batch_epoch: of the batch. A batch of an earlier connection does not run: its messages are
        redelivered.
    """
    if _process.classifier is None:
        raise RuntimeError("the worker's child got a batch before it was started")
    if batch_epoch != epoch.current:
        return Returned([Retry.AFTER_OUTAGE] * len(items), StageTimes())
    results = _process.classifier.run(items)
    return Returned(results, _process.classifier.stage_times, metrics.take())


def _limit_memory(mebibytes: int) -> None:
    """Limit this process's memory, so that a hostile image fails to decode instead of harming the machine.

    RLIMIT_DATA counts writable memory. RLIMIT_AS also counts reserved addresses without memory, 300 MB once
    the S3 client's threads run, so its limit would be guesswork.
    """
    limit = mebibytes << 20
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
