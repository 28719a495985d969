"""`wastestream worker`: runs workers on this machine for a stack on another machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from core.errors import (
    EvictionError,
    MissingRightsError,
    RedisRejectedError,
    RedisUnavailableError,
    SettingsError,
    WastestreamError,
)
from core.model.manifest import load_manifest
from core.redis.client import connect
from core.redis.server import check_server
from core.redis_url import RedisAddress
from core.settings import PREFIX, load_settings
from infra.cli.options import cores, count_workers
from infra.local.checkout import DEFAULT_FOLDER
from infra.local.environment import clean_environment, read_variables
from infra.local.errors import InterruptedStartError, StackError
from infra.local.folder import PRIVATE, DataFolder
from infra.local.lifecycle import Lifecycle
from infra.local.stack import worker_services
from infra.local.status import workers_line
from infra.local.view import View

_REDIS_URL = f"{PREFIX}REDIS_URL"


@click.command()
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Copy of worker.env from the stack's data folder [the WASTESTREAM_ variables of the environment].",
)
@click.option(
    "--processes", type=click.IntRange(1, 256), default=cores, help="Worker processes [one per core]."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=DEFAULT_FOLDER / "joined",
    metavar="DIR",
    help="Folder for logs; pass it to `status` and `down` too [wastestream-data/joined].",
)
def worker(env_file: Path | None, processes: int, data_dir: Path) -> None:
    """Run workers on this machine for a stack on another machine, and keep them running.

    The stack must listen on an address that this machine can reach: `up --listen ADDR`.
    """
    folder = DataFolder(data_dir.absolute())
    try:
        _run(folder, processes, _variables(env_file), View())
    except InterruptedStartError as error:
        click.echo(str(error), err=True)
        sys.exit(130)
    except (WastestreamError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _run(folder: DataFolder, processes: int, variables: dict[str, str], view: View) -> None:
    os.umask(PRIVATE)
    os.environ.update(variables)
    settings = load_settings()
    clean_environment(urlsplit(settings.s3_endpoint).hostname or "", aws=settings.s3_credentials == "aws")
    load_manifest(settings.model_dir)
    _check_redis(settings.redis, view)
    folder.make()
    with folder.lock() as lock:
        services = worker_services(folder, processes, "joined", variables)
        view.say(f"Starting {count_workers(processes)} for {settings.s3_endpoint} ...")
        Lifecycle(
            folder=folder,
            lock=lock,
            stages=[services],
            announce=lambda: view.say(f"Ready: {count_workers(processes)}, with logs in {folder.logs}"),
            status=workers_line,
        ).run(view)


def _check_redis(address: RedisAddress, view: View) -> None:
    """Report a Redis that does not answer or lacks rights; workers would retry for ever."""
    try:
        check_server(connect(address, timeout=2.0))
    except (MissingRightsError, RedisRejectedError):
        raise
    except EvictionError as error:
        view.say(f"Warning: {error}")
    except RedisUnavailableError as error:
        raise StackError(
            f"Redis at {address.shown} does not answer. Check that the stack runs there with "
            f"`up --listen ADDR`, and that the env file belongs to it. "
            f"{error}"
        ) from error


def _variables(env_file: Path | None) -> dict[str, str]:
    """Return the variables of the file, with absolute paths: processes run in another folder."""
    variables = read_variables(env_file) if env_file else {}
    for name in (f"{PREFIX}MODEL_DIR", f"{PREFIX}S3_CA_FILE"):
        path = variables.get(name, os.environ.get(name))
        if path:
            variables[name] = str(Path(path).absolute())
    if _REDIS_URL not in variables and _REDIS_URL not in os.environ:
        raise SettingsError(
            "Workers need the addresses of Redis and the S3 server: give --env-file a copy of worker.env "
            f"from the stack's data folder, or set {_REDIS_URL} and {PREFIX}S3_ENDPOINT and the S3 keys."
        )
    return {_REDIS_URL: os.environ.get(_REDIS_URL, ""), **variables}
