"""Commands `pause` and `resume`: `wastestream pause`, `wastestream resume`, `python -m api.lanes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import click

from api.commands import CommandGroup
from core.lanes import LANES
from core.redis.client import connect
from core.redis.eta import QueueState
from core.redis.job_store import JobStore
from core.redis.oom import OomTolerantRedis
from core.redis.pauses import Pauses
from core.settings import Settings, load_settings

_lane = click.argument("lane", type=click.Choice(LANES))


@dataclass(frozen=True, slots=True)
class LaneControl:
    """The pauses in Redis, and the jobs that wait."""

    pauses: Pauses
    jobs: JobStore

    @classmethod
    def of(cls, settings: Settings) -> LaneControl:
        """Return the control of the settings' Redis; pausing works also while it is out of memory."""
        client = connect(settings.redis, kind=OomTolerantRedis)
        return cls(Pauses(client), JobStore(client))

    def queue(self) -> QueueState:
        """Return the jobs that have not settled."""
        return self.jobs.queue()


@click.command()
@_lane
@click.pass_obj
def pause(opened: Callable[[], LaneControl], lane: str) -> None:
    """Pause a lane: workers take no more of its jobs within two seconds, also after a restart.

    Uploads are still accepted. Jobs that a worker has taken already are finished.
    """
    control = opened()
    done = "Paused" if control.pauses.pause(lane) else "Paused already:"
    click.echo(f"{done} {lane} jobs; {control.queue().pending[lane]:,} wait. To go on: resume {lane}.")


@click.command()
@_lane
@click.pass_obj
def resume(opened: Callable[[], LaneControl], lane: str) -> None:
    """Resume a paused lane: workers take its jobs again within two seconds."""
    control = opened()
    if control.pauses.resume(lane):
        click.echo(f"Resumed {lane} jobs; {control.queue().pending[lane]:,} wait.")
    else:
        click.echo(f"The {lane} lane was not paused.")


COMMANDS: Final = (pause, resume)
"""Commands of a group whose `obj` is a function that opens the `LaneControl`."""


@click.group(cls=CommandGroup, commands=COMMANDS)
@click.pass_context
def lanes(context: click.Context) -> None:
    """Pause and resume lanes in the Redis at WASTESTREAM_REDIS_URL."""
    context.obj = lambda: LaneControl.of(load_settings())


if __name__ == "__main__":
    lanes(prog_name="python -m api.lanes")
