"""`wastestream export`: results of the stack on this machine, or of other Redis and storage."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from api.export.command import export as command
from core.settings import Settings
from infra.cli.target import target_settings
from infra.local.checkout import DEFAULT_FOLDER_HELP
from infra.local.environment import clean_environment

_WHOSE: Final = """\
The results are those of the stack of the data folder. With WASTESTREAM_REDIS_URL and without --data-dir, they
are those of the services that the environment names."""


class _Export(click.Command):
    """The command, with `--data-dir`."""

    def invoke(self, ctx: click.Context) -> Any:
        folder: Path | None = ctx.params.pop("data_dir")

        def opened() -> Settings:
            settings = target_settings(folder)
            clean_environment(urlsplit(settings.s3_endpoint).hostname or "")
            return settings

        ctx.obj = opened
        return super().invoke(ctx)


export = _Export(
    "export",
    callback=command.callback,
    params=[
        *command.params,
        click.Option(
            ["--data-dir"],
            type=click.Path(readable=False, path_type=Path),
            metavar="DIR",
            help=f"Data folder of the stack [{DEFAULT_FOLDER_HELP}].",
        ),
    ],
    help=f"{inspect.cleandoc(command.help or '')}\n\n{_WHOSE}",
)
