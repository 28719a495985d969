"""Redis and the S3 server of a data folder alone, for a command that fills them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from infra.local.credentials import load_credentials
from infra.local.folder import DataFolder
from infra.local.guard import Guard
from infra.local.ports import LOOPBACK_HOST, free_ports
from infra.local.signals import Signals
from infra.local.stack import StackPlan, make_stack
from infra.local.supervisor import Supervisor
from infra.local.view import View

_PORTS: Final = 3  # as `StackPlan`: the API's, though it does not run, Redis' and the S3 server's


@contextmanager
def servers(folder: DataFolder) -> Iterator[None]:
    """Run both on free ports of loopback; `folder.worker_env` has the addresses.

    Raises:
        FolderBusyError: a stack runs on the folder.
        StartError, InterruptedStartError: as `Supervisor.start`.
    """
    folder.make()
    with folder.lock() as lock:
        plan = StackPlan(folder, free_ports(_PORTS), 0, LOOPBACK_HOST, LOOPBACK_HOST)
        stages = make_stack(plan, load_credentials(folder.credentials))[:-1]
        with Signals() as signals:
            guard = Guard(lock)
            try:
                supervisor = Supervisor(stages, guard, signals, View().say)
                supervisor.start()
                for number in (signal.SIGINT, signal.SIGTERM):  # They end the command, not only the wait.
                    signal.signal(number, signal.default_int_handler)
                try:
                    yield
                finally:
                    supervisor.stop()
            finally:
                guard.close()
