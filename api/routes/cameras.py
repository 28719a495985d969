"""`/v1/cameras`: cameras, as gateways report them and operators describe them."""

from __future__ import annotations

import time
from http import HTTPStatus

from flask import Blueprint, Response

from api.auth.policy import by_camera, caller, requires
from api.http.body import JSON, MAX_JSON_BYTES, accepts_body
from api.http.problem_types import ProblemType
from api.http.validation import read_document
from api.openapi.operation import Answer, Body, operation, respond_with
from api.schemas.cameras import CameraAbout, CameraOutput, CameraReport, Cameras, NewName, Reported
from api.services import services
from core.cameras import camera_id
from core.redis.api_keys import Scope
from core.redis.camera_reports import About, CameraStatus, now_ms

blueprint = Blueprint("cameras", __name__, url_prefix="/v1/cameras")

_UNKNOWN = CameraStatus(About(), None)


@blueprint.get("")
@requires(Scope.READ)
@by_camera
@operation("listCameras", {200: Answer("The cameras.", Cameras)})
def show() -> Response:
    """List the cameras.

    Those that have sent an image, that a gateway reports, or that an operator has described. A key that is
    bound to cameras gets its own only.
    """
    known = _cameras()
    return respond_with(Cameras(cameras=[known[camera] for camera in sorted(filter(caller().sees, known))]))


@blueprint.put("/<camera>")
@requires(Scope.ADMIN)
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
    "describeCamera",
    {200: Answer("The camera.", CameraOutput)},
    problems=[ProblemType.INVALID_CAMERA_ID],
    body=Body(CameraAbout),
)
def describe(camera: str) -> Response:
    """Describe a camera.

    Name, place, and when how many frames are expected. It replaces what was said before. A camera may be
    described before it sends something.
    """
    name, about = camera_id(camera), read_document(CameraAbout).about
    services().camera_reports.describe(name, about)
    return respond_with(_cameras()[name])


@blueprint.delete("/<camera>")
@requires(Scope.ADMIN)
@operation(
    "deleteCamera",
    {200: Answer("The camera as it was.", CameraOutput)},
    problems=[ProblemType.INVALID_CAMERA_ID, ProblemType.CAMERA_NOT_FOUND, ProblemType.CAMERA_BUSY],
)
def delete(camera: str) -> Response:
    """Delete a camera.

    Its description, its report, and its counts in the ledger; the sums of the whole system lose them too.
    Jobs, results and images stay for as long as others. The next image or report brings the camera back.
    """
    name = camera_id(camera)
    before = _cameras()
    services().camera_names.forget(name)
    return respond_with(before.get(name) or CameraOutput.of(name, _UNKNOWN, 0, time.time()))


@blueprint.post("/<camera>/rename")
@requires(Scope.ADMIN)
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
    "renameCamera",
    {200: Answer("The camera with its new name.", CameraOutput)},
    problems=[
        ProblemType.INVALID_CAMERA_ID,
        ProblemType.CAMERA_NOT_FOUND,
        ProblemType.CAMERA_BUSY,
        ProblemType.CAMERA_EXISTS,
    ],
    body=Body(NewName),
)
def rename(camera: str) -> Response:
    """Rename a camera.

    Its description, its report, and its counts in the ledger get the new name, in one atomic step. Jobs,
    results, images and the archive keep the old one, under which they were accepted. Correct the name at the
    sender first: the next image or report with the old name brings the old camera back.
    """
    new = read_document(NewName)
    services().camera_names.rename(camera_id(camera), new.id, merge=new.merge)
    return respond_with(_cameras()[new.id])


@blueprint.post("/<camera>/report")
@requires(Scope.INGEST)
@by_camera
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
    "reportCamera",
    {202: Answer("The report was taken.", Reported)},
    problems=[
        ProblemType.INVALID_CAMERA_ID,
        ProblemType.CAMERA_FORBIDDEN,
        ProblemType.TOO_MANY_CAMERAS,
    ],
    body=Body(CameraReport),
)
def report(camera: str) -> tuple[Response, int]:
    """Report a camera.

    What a gateway sampled of a camera, by hour of capture, and what became of it: sampled = accepted +
    spooled + skipped + dropped + refused. The ledger shows the counts beside its own.
    """
    name = camera_id(camera)
    caller().check_camera(name)
    document = read_document(CameraReport)
    counts = document.counts()
    services().camera_reports.add(name, document.report(now_ms()), counts)
    return respond_with(Reported(camera=name, hours=len(counts))), HTTPStatus.ACCEPTED


def _cameras() -> dict[str, CameraOutput]:
    """Return every camera by its id."""
    reported, totals = services().camera_reports.cameras(), services().ledger.snapshot()[0]
    now = time.time()
    return {
        camera: CameraOutput.of(
            camera,
            reported.get(camera, _UNKNOWN),
            totals[camera].received if camera in totals else 0,
            now,
        )
        for camera in reported.keys() | totals.keys()
    }
