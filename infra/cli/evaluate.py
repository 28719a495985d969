"""`wastestream evaluate`: a model folder's figures on labelled images."""

from __future__ import annotations

import json
from pathlib import Path

import click

from core.errors import WastestreamError


@click.command()
@click.option(
    "--model",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A folder with model.tflite and manifest.json.",
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
@click.option("--json", "as_json", is_flag=True, help="Print the figures as the manifest writes them.")
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=Path("evaluation.html"),
    show_default=True,
    help="The report to write or replace: figures, charts and the surest mistakes in one HTML file.",
)
def evaluate(model: Path, sources: tuple[Path, ...], *, as_json: bool, report: Path) -> None:
    """Measure a model on TEST images with the worker's own decode and engine."""
    # Imported here: NumPy and LiteRT are no business of the other commands.
    from trainer import evaluate as evaluation  # noqa: PLC0415
    from trainer.report import check_place, write_report  # noqa: PLC0415

    try:
        check_place(report)
        found = evaluation.evaluate(model, sources)
        write_report(found, report)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(evaluation.as_json(found.metrics), indent=1))
    else:
        click.echo("\n".join(evaluation.table(found.metrics)))
    click.echo(f"report: {report}", err=True)
