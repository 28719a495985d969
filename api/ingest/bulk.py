"""The files of one bulk upload, each with its own outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from api.http.multipart import File, Form
from api.http.problems import RequestError
from api.ingest.check import check, idempotency_of
from api.ingest.commit import Image, Upload
from api.ingest.metadata import Metadata, read_part
from api.ingest.upload import Ingest
from core.errors import ImageError, WastestreamError
from core.jobs import Job
from core.lanes import BULK
from core.redis.admission import Accepted, RateLimit
from core.redis.eta import Place

FileOutcome = tuple[Job, Place | None] | WastestreamError
"""The job of a file, with its place in the queue, or the error."""


class Sender(Protocol):
    """Sender of an upload, `api.auth.policy.Caller`."""

    @property
    def id(self) -> str:
        """Id of its API key."""

    @property
    def limit(self) -> RateLimit | None:
        """Its rate limit."""

    def check_camera(self, camera: str) -> None:
        """Raise `RequestError` if it may not send as this camera."""


_Checked = Image | RequestError | ImageError


def submit_form(
    form: Form, call: Metadata, sender: Sender, ingest: Ingest
) -> tuple[list[FileOutcome], Accepted]:
    """Submit the files of a form; return the outcome of each, and the rest of the rate limit.

    The good files are accepted together. Those that have metadata of their own are rejected alone for an
    idempotency key that was used with other bytes, or for a new camera beyond the bound.

    Args:
        form: the files, and perhaps their metadata.
        call: from the headers.
        sender: whose rate limit and cameras count.
        ingest: accepts them.

    Raises:
        RequestError: 400, 413, as `read_part`; 403, the camera of the headers is not the sender's.
        QueueFullError, RateLimitError, StorageUnavailableError, RedisUnavailableError, DiskFullError: nothing
            was accepted.
        IdempotencyConflictError, TooManyCamerasError: the same, for the call as a whole.
    """
    described: Sequence[Metadata | RequestError] = [call] * len(form.files)
    if form.metadata is None:
        sender.check_camera(call.camera)
    else:
        described = read_part(form.metadata, len(form.files), call)
    checked = [_checked(file, metadata, sender) for file, metadata in zip(form.files, described, strict=True)]
    if form.metadata is None or call.idempotency_key is not None:
        return _submit_whole(form.files, checked, call.idempotency_key, sender, ingest)
    keys = [
        None if isinstance(metadata, RequestError) else metadata.idempotency_key for metadata in described
    ]
    return _submit_each(form.files, checked, keys, sender, ingest)


def _checked(file: File, metadata: Metadata | RequestError, sender: Sender) -> _Checked:
    if isinstance(metadata, RequestError):
        return metadata
    try:
        sender.check_camera(metadata.camera)
        return check(*file.image(), metadata.origin())
    except (RequestError, ImageError) as error:
        return error


def _submit_whole(
    files: Sequence[File], checked: Sequence[_Checked], key: str | None, sender: Sender, ingest: Ingest
) -> tuple[list[FileOutcome], Accepted]:
    """Submit the good files as one upload, with the idempotency key of the call."""
    images = [image for image in checked if isinstance(image, Image)]
    accepted = Accepted()
    if images:
        parts = ((file.media_type, file.data) for file in files)
        idempotency = idempotency_of(key, images, parts, sender.id)
        accepted = ingest.submit(Upload(images, BULK, idempotency, sender.limit, sender.id))
    jobs = zip(accepted.jobs, accepted.places, strict=True)
    return [next(jobs) if isinstance(image, Image) else image for image in checked], accepted


def _submit_each(
    files: Sequence[File],
    checked: Sequence[_Checked],
    keys: Sequence[str | None],
    sender: Sender,
    ingest: Ingest,
) -> tuple[list[FileOutcome], Accepted]:
    """Submit each good file as an upload of its own."""
    uploads = [
        # As `POST /v1/images` with this key has it, so that the file may come again there.
        Upload(
            [image],
            BULK,
            idempotency_of(key, [image], [(file.media_type, image.data)], sender.id),
            sender.limit,
            sender.id,
        )
        for file, image, key in zip(files, checked, keys, strict=True)
        if isinstance(image, Image)
    ]
    outcomes = ingest.submit_call(uploads) if uploads else []
    limited = [outcome for outcome in outcomes if isinstance(outcome, Accepted) and outcome.left is not None]
    rest = iter(outcomes)
    shown = [_shown(next(rest)) if isinstance(image, Image) else image for image in checked]
    return shown, limited[-1] if limited else Accepted()


def _shown(outcome: Accepted | WastestreamError) -> FileOutcome:
    return (outcome.jobs[0], outcome.places[0]) if isinstance(outcome, Accepted) else outcome
