"""A worker that writes its consumer's and pool's events to the file TOLD, for the contract tests."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from celery import signals

from worker.__main__ import main


def _tell(sender: Any, **_: Any) -> None:
    told = {
        "initial_prefetch_count": sender.initial_prefetch_count,
        "qos_value": sender.qos.value,
        "num_processes": sender.pool.num_processes,
        "channel": sender.task_consumer.channel is sender.connection.default_channel,
        "processes": sender.pool.info["processes"],
        "timer": [name for name in ("call_repeatedly", "call_after") if not hasattr(sender.timer, name)],
    }
    file = Path(os.environ["TOLD"])
    part = file.with_suffix(".part")
    part.write_text(json.dumps(told))
    part.rename(file)


signals.worker_ready.connect(_tell, weak=False)
sys.exit(main())
