"""`wastestream up`: runs the whole system on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from core.errors import WastestreamError
from core.model.manifest import load_manifest
from core.settings import PREFIX, load_settings
from infra.cli.options import DEFAULT_PORT, cores, count_workers, data_dir
from infra.local import ports
from infra.local.appendonly import repair
from infra.local.checkout import PROGRAM
from infra.local.credentials import load_credentials
from infra.local.detach import detach
from infra.local.environment import clean_environment
from infra.local.errors import InterruptedStartError
from infra.local.folder import PRIVATE, DataFolder
from infra.local.http_probes import lost_data, read_health, read_session
from infra.local.lifecycle import Lifecycle
from infra.local.limits import raise_file_limit
from infra.local.process import Process
from infra.local.programs import REDIS, find_program
from infra.local.stack import StackPlan, make_stack
from infra.local.status import live_line
from infra.local.view import View


@click.command()
@data_dir
@click.option(
    "--port",
    type=click.IntRange(1, ports.MAX_PORT),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of the API; Redis takes the next one and the S3 server the one after.",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    default=cores,
    help="Worker processes [one per core]; with 0 only other machines work.",
)
@click.option(
    "--detach", "background", is_flag=True, help="Return when everything is ready; `down` stops the stack."
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDR", help="Address of the API.")
@click.option(
    "--listen",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDR",
    help="Address of Redis and the S3 server, for workers on other machines.",
)
@click.option(
    "--repair",
    "damaged",
    is_flag=True,
    help="First cut off the unusable part of damaged Redis files, and keep a copy.",
)
def up(
    data_dir: Path, port: int, workers: int, host: str, listen: str, *, background: bool, damaged: bool
) -> None:
    """Start the whole system on this machine and keep it running.

    Starts Redis, an S3 server, the API and one worker per core, and restarts a process that ends. Ctrl-C
    finishes the requests and batches in progress and stops. A new start on the same data folder has every
    job, result and image.
    """
    plan = StackPlan(DataFolder(data_dir.absolute()), port, workers, host, listen)
    ready: Callable[[], None] | None = None
    if background:
        ready = detach(lambda: plan.folder.logs / "up.log")
        if ready is None:
            return
    try:
        _run(plan, View(), ready or (lambda: None), damaged=damaged)
    except InterruptedStartError as error:
        click.echo(str(error), err=True)
        sys.exit(130)
    except (WastestreamError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _run(plan: StackPlan, view: View, ready: Callable[[], None], *, damaged: bool) -> None:
    os.umask(PRIVATE)
    clean_environment(ports.dial(plan.listen), ports.dial(plan.host))
    _check_model()
    warning = raise_file_limit()
    plan.folder.make()
    with plan.folder.lock() as lock:
        plan.check_ports()
        if damaged:
            view.say(repair(plan.folder.redis, find_program(*REDIS)))
        stages = make_stack(plan, load_credentials(plan.folder.credentials))
        programs = f"Redis, the S3 server, the API and {count_workers(plan.workers)}"
        view.say(f"Starting {programs} on {plan.folder.path} ...")
        if warning:
            view.say(warning)

        def announce() -> None:
            _announce(plan, view)
            ready()

        def status(processes: Sequence[Process]) -> str:
            return live_line(plan.host, plan.port, processes)

        Lifecycle(
            folder=plan.folder,
            lock=lock,
            stages=stages,
            announce=announce,
            status=status,
            url=plan.url,
            host=ports.dial(plan.host),
            port=plan.port,
        ).run(view)


def _announce(plan: StackPlan, view: View) -> None:
    _, health = read_health(ports.dial(plan.host), plan.port)
    if lost := lost_data(health):
        view.say(f"CLOSED: {plan.url}  {lost}")
        return
    view.say(f"Ready: {plan.url}  (the page for images, and the API below /v1)")
    view.say(f"Try:   {PROGRAM} classify PATH" + ("" if plan.port == DEFAULT_PORT else f" --url {plan.url}"))
    _say_access(plan, view)
    if plan.listen not in ports.LOOPBACK:
        view.say(
            f"Other machines join with `{PROGRAM} worker --env-file FILE`, "
            f"where FILE is a copy of {plan.folder.worker_env}."
        )


def _say_access(plan: StackPlan, view: View) -> None:
    if load_settings().auth == "off":
        if plan.host not in ports.LOOPBACK:
            view.say(
                f"Warning: {PREFIX}AUTH is off, so every client that reaches {plan.host} can use the API."
            )
    elif read_session(ports.dial(plan.host), plan.port).get("required"):
        view.say(f"Callers need an API key: `classify` reads it from {PREFIX}API_KEY, the page asks for it.")
    else:
        view.say(f"There is no API key, so the API accepts only this machine ({PROGRAM} keys creates one).")


def _check_model() -> None:
    """Report a missing model before the start; otherwise each worker would report it later."""
    folder = load_settings().model_dir.absolute()
    load_manifest(folder)
    os.environ[f"{PREFIX}MODEL_DIR"] = str(folder)  # Processes run in another folder.
