"""Commands `jobs list` and `jobs retry`: `wastestream jobs`, `python -m api.jobs`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import click

from api.commands import CommandGroup, print_table
from api.ingest.retries import REJECTIONS, RETRYABLE, Failed, Retried
from api.options import camera, moment
from api.schemas import jobs as schemas
from api.services import Services
from core.errors import JobNotFoundError
from core.ids import accepted_ms
from core.jobs import Job, JobState
from core.redis.job_index import Cursor, JobFilter
from core.settings import Settings, load_settings
from core.times import timestamp

_PAGE: Final = 1000
_RETRIES: Final = 100  # in one call

Opener = Callable[[], Services]
Command = Callable[..., Any]


def _filters(states: Iterable[JobState]) -> Callable[[Command], Command]:
    """Return a decorator that adds the options of a filter, with a flag for each of the states."""

    def add(command: Command) -> Command:
        options = [
            *(
                click.option(
                    f"--{state}",
                    "states",
                    flag_value=state.value,
                    multiple=True,
                    help=f"{state.title()} jobs.",
                )
                for state in states
            ),
            click.option("--camera", callback=camera, metavar="ID", help="Jobs of this camera [all]."),
            click.option(
                "--since",
                callback=moment,
                default="24h",
                show_default=True,
                metavar="TIME",
                help="Jobs accepted since then: 30m, 2h or 7d ago, 2026-01-31 or 2026-01-31T08:00:00Z.",
            ),
            click.option("--until", callback=moment, metavar="TIME", help="Jobs accepted before then [now]."),
        ]
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command("list")
@_filters(JobState)
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Maximum jobs."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def list_jobs(
    opened: Opener,
    *,
    states: tuple[str, ...],
    camera: str,
    since: int,
    until: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show jobs in the order of acceptance, the oldest first; without a state, jobs of all states."""
    jobs = _listed(opened(), JobFilter(since, until, frozenset(map(JobState, states)), camera))
    shown = list(islice(jobs, limit))
    if as_json:
        for job in shown:
            click.echo(schemas.Job.of(job).model_dump_json())
    elif shown:
        print_table([("id", "state", "camera", "accepted", "result"), *map(_row, shown)])
    else:
        click.echo("No job matches. Without --since only the last 24 hours are listed.", err=True)
    if next(jobs, None) is not None:
        click.echo(f"There are more than {limit:,}; see --limit.", err=True)


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters(sorted(RETRYABLE, reverse=True))
@click.pass_context
def retry(
    context: click.Context,
    *,
    ids: tuple[str, ...],
    states: tuple[str, ...],
    camera: str,
    since: int,
    until: int | None,
) -> None:
    """Classify kept images again: of the named failed or expired jobs, or of all matching jobs.

    Each becomes a new job; a line shows the old id and the new one. A job is retried once, however often the
    command is repeated. The exit code is 1 if a job could not be retried.
    """
    if bool(ids) is bool(states):
        raise click.UsageError("Name the ids of jobs, or select jobs with --failed, --expired or both.")
    deps: Services = context.obj()
    counts: Counter[str] = Counter()
    wanted = JobFilter(since, until, frozenset(map(JobState, states)), camera)
    try:
        for outcome in _each(deps, ids) if ids else _matching(deps, wanted):
            counts[_report(outcome)] += 1
    finally:
        _sum_up(counts)
    if counts["failed"]:
        raise SystemExit(1)


COMMANDS: Final = (list_jobs, retry)
"""Commands of a group whose `obj` is a function that opens the `Services`."""


def services_of(settings: Settings) -> Services:
    """Return services for the commands.

    Raises:
        DataLostError: Redis and storage do not belong together.
        RedisUnavailableError, StorageUnavailableError: one of them is down.
    """
    deps = Services.open(settings)
    deps.integrity.check()
    return deps


def _listed(deps: Services, wanted: JobFilter) -> Iterator[Job]:
    after: Cursor | None = None
    while True:
        page = deps.index.page(wanted, after, _PAGE)
        yield from (job for job in deps.jobs.read_many(page.ids) if job is not None)
        if page.next is None:
            return
        after = page.next


def _each(deps: Services, ids: Iterable[str]) -> Iterator[Retried | Failed]:
    for job_id in ids:
        job = deps.jobs.read(job_id)
        try:
            outcome: Retried | Failed = deps.retries.retry(job) if job else Failed(job_id, _unknown(job_id))
        except REJECTIONS as error:
            outcome = Failed(job_id, error)
        yield outcome


def _unknown(job_id: str) -> JobNotFoundError:
    return JobNotFoundError(f"There is no job {job_id[:80]!r}, or its record has expired.")


def _matching(deps: Services, wanted: JobFilter) -> Iterator[Retried | Failed]:
    after: Cursor | None = None
    while True:
        outcomes, after = deps.retries.retry_all(wanted, after, _RETRIES)
        yield from outcomes
        if after is None:
            return


def _report(outcome: Retried | Failed) -> str:
    """Print the outcome of a retry; return the name of its counter."""
    if isinstance(outcome, Failed):
        click.echo(str(outcome.error), err=True)
        return "failed"
    click.echo(f"{outcome.old_id} {outcome.job.id}")
    return "known" if outcome.known else "retried"


def _sum_up(counts: Counter[str]) -> None:
    if not counts:
        click.echo("No job matches, so none was retried.", err=True)
        return
    sentences = {
        "retried": "Retried {:,}.",
        "known": "Retried before: {:,}.",
        "failed": "Could not be retried: {:,}.",
    }
    said = [sentence.format(counts[name]) for name, sentence in sentences.items() if counts[name]]
    click.echo(" ".join(said), err=True)


def _row(job: Job) -> tuple[str, str, str, str, str]:
    accepted = timestamp(accepted_ms(job.id))[:19].replace("T", " ") + " UTC"
    result = job.prediction.label if job.prediction else job.error or ""
    return job.id, job.state.value, job.camera, accepted, result


@click.group(cls=CommandGroup, commands=COMMANDS)
@click.pass_context
def jobs(context: click.Context) -> None:
    """List and retry jobs of the Redis and the storage that the environment names."""
    context.obj = lambda: services_of(load_settings())


if __name__ == "__main__":
    jobs(prog_name="python -m api.jobs")
