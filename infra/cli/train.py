"""`wastestream train`: a model folder from labelled images."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path

import click

from core.errors import WastestreamError


class DataSource(click.ParamType[tuple[Path, float]]):
    """A path, and how much its images count behind the last `=`, 1 without: `(Path, float)`."""

    name = "source"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Path, float]:
        """See the class; a path that holds `=` needs a weight behind it."""
        path, separator, weight = value.rpartition("=")
        if not separator:
            return Path(value), 1.0
        try:
            number = float(weight)
        except ValueError:
            self.fail(
                f"{weight!r} is no weight; give a number above 0 behind the path, such as {path}=0.5.",
                param,
                ctx,
            )
        if not 0 < number < math.inf:
            self.fail(f"the weight of {path} must be above 0.", param, ctx)
        return Path(path), number


@click.command()
@click.option(
    "--data",
    "sources",
    required=True,
    multiple=True,
    metavar="DIR|TAR[=WEIGHT]",
    type=DataSource(),
    help="TRAIN/{O,R} and TEST/{O,R}, as a folder or a tar archive. Repeat it for several; WEIGHT, 1 unless "
    "given, is how much each of its images counts.",
)
@click.option(
    "--weights",
    required=True,
    metavar="imagenet|FILE",
    help="Where training begins: `imagenet` downloads Keras' weights, FILE is a .weights.h5 of MobileNetV2.",
)
@click.option(
    "--classifier",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="ImageNet's classifier of the same MobileNetV2, .npz of kernel and bias: where learning from "
    "the teacher begins.",
)
@click.option(
    "--teacher",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The .pth file of EfficientNet-lite's ImageNet weights: what it says of the images is learnt too.",
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
def train(  # noqa: PLR0917 - Click passes them by name
    sources: tuple[tuple[Path, float], ...],
    weights: str,
    classifier: Path | None,
    teacher: Path | None,
    out: Path,
    config_path: Path | None,
    *,
    resume: bool,
) -> None:
    """Train, calibrate, measure and export a model."""
    # Imported here: TensorFlow takes seconds to load, and only this command needs it.
    for number in (signal.SIGINT, signal.SIGTERM):  # While it trains, the checkpoint is written first.
        signal.signal(number, signal.default_int_handler)
    from core.memory import keep_freed_memory  # noqa: PLC0415
    from trainer.config import load_config  # noqa: PLC0415
    from trainer.runtime import quiet_tensorflow  # noqa: PLC0415

    try:
        config = load_config(config_path)
        quiet_tensorflow()
        keep_freed_memory(2**31 - 1, every_size=True)
        from trainer.train import Knowledge  # noqa: PLC0415
        from trainer.train import train as run  # noqa: PLC0415

        run(
            [path for path, _ in sources],
            weights,
            out,
            config,
            source_weights=[weight for _, weight in sources],
            knowledge=Knowledge(classifier, teacher),
            resume=resume,
        )
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo(
            f"Stopped; {out} was not written. If {out}.training holds a checkpoint, the same command with "
            "--resume goes on from it.",
            err=True,
        )
        sys.exit(130)
