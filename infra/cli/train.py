"""`wastestream train`: a model folder from labelled images."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from core.errors import WastestreamError


@click.command()
@click.option(
    "--data",
    "sources",
    required=True,
    multiple=True,
    metavar="DIR|TAR",
    type=click.Path(path_type=Path),
    help="TRAIN/{O,R} and TEST/{O,R}, as a folder or a tar archive. Repeat it for several.",
)
@click.option(
    "--weights",
    required=True,
    metavar="imagenet|FILE",
    help="Where training begins: `imagenet` downloads Keras' weights, FILE is a .weights.h5 of MobileNetV2.",
)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The model folder to write; it appears when it is complete.",
)
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A TOML file; keys left out keep the values of trainer/default.toml.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run of the same --out.")
def train(
    sources: tuple[Path, ...], weights: str, out: Path, config_path: Path | None, *, resume: bool
) -> None:
    """Train, calibrate, measure and export a model."""
    # Imported here: TensorFlow takes seconds to load, and only this command needs it.
    for number in (signal.SIGINT, signal.SIGTERM):  # While it trains, the checkpoint is written first.
        signal.signal(number, signal.default_int_handler)
    from core.memory import keep_freed_memory  # noqa: PLC0415
    from trainer.config import load_config  # noqa: PLC0415
    from trainer.quiet import quiet_tensorflow  # noqa: PLC0415

    try:
        config = load_config(config_path)
        quiet_tensorflow()
        keep_freed_memory(2**31 - 1, every_size=True)
        from trainer.train import train as run  # noqa: PLC0415

        run(sources, weights, out, config, resume=resume)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo(
            f"Stopped; {out} was not written. If {out}.training holds a checkpoint, the same command with "
            "--resume goes on from it.",
            err=True,
        )
        sys.exit(130)
