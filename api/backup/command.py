"""The commands `backup` and `restore`."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Final

import click

from api.backup.create import Backup
from api.backup.manifest import Manifest
from api.backup.recover import UNKNOWN_CAMERA, Recovery
from api.backup.restore import Restorer
from api.backup.target import Target
from core.errors import WastestreamError
from core.settings import Settings
from core.times import timestamp

_PRIVATE: Final = stat.S_IRWXG | stat.S_IRWXO

target = click.argument("target")


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.command()
@target
@click.pass_obj
def backup(settings: Callable[[], Settings], target: str) -> None:
    """Copy jobs, results, ledger, API keys, webhooks and images to TARGET while everything runs.

    TARGET is a folder, or s3://BUCKET/PREFIX with the AWS_* variables of the environment. A second backup
    to the same place copies new images only. The exit code is 0, or 1 if the backup failed; the place then
    keeps the previous one.
    """
    before = os.umask(_PRIVATE)  # It holds images, and secrets of webhooks.
    try:
        place = Target(target, make=True)  # reads the AWS variables before the settings' own are cleaned
        manifest = Backup(settings(), place, _say).run()
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    finally:
        os.umask(before)
    click.echo(f"Backup of {timestamp(manifest.taken_ms)} complete: {_summary(manifest)}")


@click.command()
@target
@click.option("--skip-damaged", is_flag=True, help="Restore the rest if images of the backup are damaged.")
@click.pass_obj
def restore(settings: Callable[[], Settings], target: str, *, skip_damaged: bool) -> None:
    """Restore a backup from TARGET into an empty Redis and an empty bucket.

    Every file is verified before anything is written. The API opens when everything is there; a restoration
    that was cut off continues when it is run again. The exit code is 0, or 1 if nothing was restored.
    """
    try:
        place = Target(target, make=False)
        manifest = Restorer(settings(), place, _say).run(skip_damaged=skip_damaged)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Restored the backup of {timestamp(manifest.taken_ms)}: {_summary(manifest)}")


@click.command()
@click.option("--dry-run", is_flag=True, help="Count only; change nothing.")
@click.pass_obj
def recover(settings: Callable[[], Settings], *, dry_run: bool) -> None:
    """Recover jobs from images and archive after Redis was lost.

    Settled jobs get their results and rows of the ledger back from the archive; all other images become jobs
    again. It also works after `installation renew` or `restore`, for the images of before. Run it again if it
    was cut off: nothing is counted twice. The exit code is 0, or 1 if it failed.
    """
    try:
        counts = Recovery(settings(), _say, dry_run=dry_run).run(time.time_ns() // 1_000_000)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    begin = "Would recover" if dry_run else "Recovered"
    click.echo(
        f"{begin} {counts.archived + counts.enqueued:,} jobs: {counts.archived:,} that the archive has as "
        f"settled, and {counts.enqueued:,} images that are classified, as nothing says that they settled."
    )
    if counts.readable:
        click.echo(
            f"Of the settled jobs {counts.readable:,} are within the retention: they can be read and listed. "
            "The feed (/v1/results, events, webhooks, MQTT) does not repeat the settled jobs."
        )
    if counts.earlier:
        click.echo(f"Earlier runs had made jobs of {counts.earlier:,} other images.")
    if counts.unknown_camera:
        click.echo(
            f"{counts.unknown_camera:,} of these are direct uploads; their camera is {UNKNOWN_CAMERA!r} now."
        )
    if counts.unreadable:
        click.echo(f"{counts.unreadable:,} images are missing in their objects, or are no images.")
    click.echo(
        "Lost are API keys, webhooks, cursors, pauses, idempotency keys, and of images that are classified "
        "their sender, capture time and maximum age. Make API keys before others can reach the API."
    )


def _summary(manifest: Manifest) -> str:
    words = [f"{manifest.waiting:,} waiting and {manifest.settled:,} settled jobs"]
    words.append(f"{manifest.objects.lines:,} objects")
    if manifest.expired:
        words.append(f"{manifest.expired:,} objects of settled jobs had been removed by retention")
    if manifest.lost:
        words.append(
            f"{manifest.lost:,} objects of waiting jobs were missing in storage: these jobs will fail"
        )
    return "; ".join(words)
