"""`wastestream train`: trains a model on labelled images."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path

import click

from core.errors import WastestreamError


class DataSource(click.ParamType[tuple[Path, float]]):
    """A path with the weight of its images after the last `=` (default 1): `(Path, float)`."""

    name = "source"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Path, float]:
        """See the class; a path that contains `=` needs a weight."""
        path, separator, weight = value.rpartition("=")
        if not separator:
            return Path(value), 1.0
        try:
            number = float(weight)
        except ValueError:
            self.fail(
                f"{weight!r} is not a weight; add a number above 0 to the path, such as {path}=0.5.",
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
    help="TRAIN/{O,R} and TEST/{O,R}, as a folder or a tar archive. Repeat it for several; WEIGHT is the "
    "weight of each image [1].",
)
@click.option(
    "--weights",
    required=True,
    metavar="imagenet|FILE",
    help="Initial weights: `imagenet` downloads Keras' weights, FILE is a .weights.h5 of MobileNetV2.",
)
@click.option(
    "--classifier",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Initial weights of the distillation: ImageNet's classifier of the same MobileNetV2, .npz of kernel "
    "and bias. With `--weights imagenet` Keras brings it.",
)
@click.option(
    "--teacher",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Teacher for distillation: .pth file of EfficientNet-lite's ImageNet weights.",
)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Model folder to write; it appears when it is complete.",
)
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="TOML file; omitted keys keep the values of trainer/default.toml.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted training with the same --out.")
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
    for number in (signal.SIGINT, signal.SIGTERM):  # During training the checkpoint is written first.
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
            "--resume continues from it.",
            err=True,
        )
        sys.exit(130)
