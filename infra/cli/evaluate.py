"""`wastestream evaluate`: a model folder's figures on labelled images."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from core.errors import WastestreamError


@click.command()
@click.option(
    "--model",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Model folder, with model.tflite and manifest.json.",
)
@click.option(
    "--data",
    "sources",
    required=True,
    multiple=True,
    metavar="DIR|TAR",
    type=click.Path(path_type=Path),
    help="TEST/{O,R}, as a folder or a tar archive. Repeat it for several.",
)
@click.option(
    "--engine",
    type=click.Choice(["float", "int8"]),
    default="float",
    show_default=True,
    help="Weights to measure.",
)
@click.option(
    "--by-kind", is_flag=True, help="Also print the accuracy of each kind of object, the worst first."
)
@click.option(
    "--calibrate",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Fit temperature, threshold and review band on these images, and write the recalibrated model to "
    "the folder OUT, for WASTESTREAM_MODEL_DIR.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON, in the manifest's format.")
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=Path("evaluation.html"),
    show_default=True,
    help="HTML report to write or replace: figures, charts and the most confident mistakes.",
)
def evaluate(
    model: Path,
    sources: tuple[Path, ...],
    *,
    engine: Literal["float", "int8"],
    by_kind: bool,
    calibrate: Path | None,
    as_json: bool,
    report: Path,
) -> None:
    """Measure a model on TEST images with the workers' own decoder and engine."""
    # Imported here: only this command needs NumPy and LiteRT.
    from trainer import evaluate as evaluation  # noqa: PLC0415
    from trainer.kinds import kind_lines  # noqa: PLC0415
    from trainer.recalibrate import check_folder, write_recalibrated  # noqa: PLC0415
    from trainer.report import check_place, write_report  # noqa: PLC0415

    try:
        check_place(report)
        if calibrate is not None:
            check_folder(calibrate)
        result = evaluation.evaluate(model, sources, weights=engine)
        write_report(result, report)
        lines = [] if calibrate is None else write_recalibrated(model, result.images, calibrate)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        figures = evaluation.as_json(result.metrics)
        if by_kind:
            figures["by_kind"] = [asdict(kind) for kind in result.kinds]
        click.echo(json.dumps(figures, indent=1))
    else:
        click.echo("\n".join(evaluation.table(result.metrics)))
        if by_kind:
            click.echo("\n".join(["by kind of object", *kind_lines(result.kinds)]))
    for line in lines:
        click.echo(line, err=True)
    click.echo(f"report: {report}", err=True)
