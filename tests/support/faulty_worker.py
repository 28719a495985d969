"""A worker with a fault built in: `python -m tests.support.faulty_worker --name NAME`, as `python -m worker`.

FAULT says which; MARKER is a file whose presence means that a fault of the kind "once" has happened.
RUNS, if set, is a file that gets a line with the ids of every batch, and BEGUN one with the id of every job
whose start was counted. VISIBILITY, if set, is the seconds after which messages of a worker that does not
renew its leases are delivered again. STOP, if set, is the seconds that a batch may take once the worker was
told to stop.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import TimeoutError as RedisTimeout

from core import messages as queue
from core.errors import StorageUnavailableError
from core.model.engine import LiteRtEngine
from core.redis.job_store import JobStore
from core.settings import Settings
from core.shards import Shard, object_key
from core.storage import ObjectStore
from worker import batching, child, watchdog
from worker.__main__ import main
from worker.classify import Classifier
from worker.periodic import retention
from worker.transport import leases
from worker.transport.channel import QoS
from worker.transport.delivery import Item, ack_all

_fault = os.environ["FAULT"]
_marker = Path(os.environ["MARKER"])
if "VISIBILITY" in os.environ:
    queue.VISIBILITY_TIMEOUT = int(os.environ["VISIBILITY"])  # type: ignore[misc]
    leases.RENEW_SECONDS = 0.5  # type: ignore[misc]
if "STOP" in os.environ:
    batching.STOP_SECONDS = float(os.environ["STOP"])  # type: ignore[misc]
_classify, _settle, _begin, _append, _logits, _get_many = (
    Classifier._classify,
    JobStore.settle,
    JobStore.begin,
    QoS.append,
    LiteRtEngine.logits,
    ObjectStore.get_many,
)


def _die_once(pid: int) -> None:
    if not _marker.exists():
        _marker.touch()
        os.kill(pid, signal.SIGKILL)
        time.sleep(5)  # the signal of another process arrives within this


def _is_poison(item: Item) -> bool:
    """Any image of the camera `poison`, or the first of an upload of `first-is-poison`."""
    shard = Shard.at(object_key(item.key))
    first = shard.job_ids[0] if shard else ""
    return "/poison/" in item.key or ("/first-is-poison/" in item.key and item.job_id == first)


def _classify_with_fault(self: Classifier, items: Sequence[Item]) -> list[Any]:
    if "RUNS" in os.environ:
        with Path(os.environ["RUNS"]).open("a") as runs:
            runs.write(" ".join(item.job_id for item in items) + "\n")
    bad = any(map(_is_poison, items))
    if bad and _fault == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if bad and _fault == "hang":
        time.sleep(600)
    if _fault == "slow":
        time.sleep(float(os.environ.get("SLOW_SECONDS", "0.1")))
    return _classify(self, items)


def _begin_and_tell(self: JobStore, job_id: str) -> Any:
    with Path(os.environ["BEGUN"]).open("a") as begun:
        begun.write(job_id + "\n")
    return _begin(self, job_id)


def _settle_then_die(self: JobStore, *arguments: Any) -> Any:
    settled = _settle(self, *arguments)
    _die_once(os.getppid())
    return settled


def _die_before_recording(self: QoS, *arguments: Any) -> None:
    _die_once(os.getpid())
    _append(self, *arguments)


def _die_in_model(self: LiteRtEngine, pixels: Any) -> Any:
    _die_once(os.getppid())
    return _logits(self, pixels)


async def _die_in_fetch(self: ObjectStore, keys: Sequence[str]) -> Any:
    _die_once(os.getppid())
    return await _get_many(self, keys)


async def _not_served(self: ObjectStore, keys: Sequence[str]) -> Any:
    stuck = {object_key(key) for key in keys if "/poison/" in key}
    images = await _get_many(self, keys)
    return [
        StorageUnavailableError("a fault of the tests") if object_key(key) in stuck else image
        for key, image in zip(keys, images, strict=True)
    ]


def _cannot_start(settings: Settings) -> None:
    raise OSError(f"a fault of the tests, with {settings.engine}")


_failures = iter([True] * 3)


def _fails_at_first(messages: Iterable[Any]) -> None:
    if next(_failures, False):
        raise RedisTimeout("a fault of the tests")
    ack_all(messages)


if "BEGUN" in os.environ:
    JobStore.begin = _begin_and_tell  # type: ignore[method-assign]
if _fault in {"crash", "hang", "slow", "none"}:
    Classifier._classify = _classify_with_fault  # type: ignore[method-assign]
elif _fault == "after settle":
    JobStore.settle = _settle_then_die  # type: ignore[assignment,method-assign]
elif _fault == "after pop":
    QoS.append = _die_before_recording  # type: ignore[assignment,method-assign]
elif _fault == "in model":
    LiteRtEngine.logits = _die_in_model  # type: ignore[method-assign]
elif _fault == "in fetch":
    ObjectStore.get_many = _die_in_fetch  # type: ignore[method-assign]
elif _fault == "deaf":
    QoS.can_consume = lambda _: _marker.exists()  # type: ignore[method-assign]
    watchdog.PROGRESS_TIMEOUT = 1.0  # type: ignore[misc]
elif _fault == "not served":
    ObjectStore.get_many = _not_served  # type: ignore[method-assign]
    batching.RETRY_BACKOFF = 0.02  # type: ignore[misc]
elif _fault == "sweep":
    retention.CHECK_SECONDS = 0.2  # type: ignore[misc]
elif _fault == "no child":
    child.start = _cannot_start
elif _fault == "ack":
    batching.ack_all = _fails_at_first  # type: ignore[attr-defined]
else:
    sys.exit(f"no such fault: {_fault}")

sys.exit(main())
