"""A worker with a fault built in: `python -m tests.support.faulty_worker --name NAME`, as `python -m worker`.

FAULT says which; MARKER is a file whose presence means that a fault of the kind "once" has happened.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kombu.transport.redis import QoS
from redis.exceptions import TimeoutError as RedisTimeout

from core.engine import LiteRtEngine
from core.errors import StorageUnavailableError
from core.jobs import Outcome
from core.ledger import JobStore
from core.objects import ObjectStore
from worker import batching
from worker.__main__ import main
from worker.classify import Classifier, Item
from worker.delivery import ack_all

_fault = os.environ["FAULT"]
_marker = Path(os.environ["MARKER"])
_get_one = ObjectStore._get_one
_classified, _settle, _append, _logits = (
    Classifier._classified,
    JobStore.settle,
    QoS.append,
    LiteRtEngine.logits,
)


def _die_once(pid: int) -> None:
    if not _marker.exists():
        _marker.touch()
        os.kill(pid, signal.SIGKILL)
        time.sleep(5)  # the signal of another process arrives within this


def _classified_with_fault(self: Classifier, items: Sequence[Item]) -> list[Outcome | None]:
    if _fault == "record":
        with _marker.open("a") as marker:
            marker.write(f"{len(items)}\n")
    bad = any("/poison/" in item.key for item in items)
    if bad and _fault == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if bad and _fault == "hang":
        time.sleep(600)
    if _fault == "slow":
        time.sleep(float(os.environ.get("SLOW_SECONDS", "0.1")))
    return _classified(self, items)


def _settle_then_die(self: JobStore, *arguments: Any) -> Any:
    settled = _settle(self, *arguments)
    _die_once(os.getppid())
    return settled


def _die_before_recording(self: QoS, *arguments: Any) -> None:
    _die_once(os.getpid())
    _append(self, *arguments)  # type: ignore[no-untyped-call]


def _die_in_model(self: LiteRtEngine, pixels: Any) -> Any:
    _die_once(os.getppid())
    return _logits(self, pixels)


async def _not_served(self: ObjectStore, key: str) -> Any:
    if "/poison/" in key:
        return StorageUnavailableError("a fault of the tests")
    return await _get_one(self, key)


_failures = iter([True] * 3)


def _fails_at_first(messages: Iterable[Any]) -> None:
    if next(_failures, False):
        raise RedisTimeout("a fault of the tests")
    ack_all(messages)


if _fault in {"crash", "hang", "slow", "record"}:
    Classifier._classified = _classified_with_fault  # type: ignore[method-assign]
elif _fault == "after settle":
    JobStore.settle = _settle_then_die  # type: ignore[assignment,method-assign]
elif _fault == "after pop":
    QoS.append = _die_before_recording  # type: ignore[method-assign]
elif _fault == "in model":
    LiteRtEngine.logits = _die_in_model  # type: ignore[method-assign]
elif _fault == "not served":
    ObjectStore._get_one = _not_served  # type: ignore[method-assign]
    batching.SHORTEST_ABSENCE = 0.02  # type: ignore[misc]
elif _fault == "ack":
    batching.ack_all = _fails_at_first  # type: ignore[attr-defined]
else:
    sys.exit(f"no such fault: {_fault}")

sys.exit(main())
