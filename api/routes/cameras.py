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
from api.schemas.cameras import CameraAbout, CameraOutput, CameraReport, Cameras, Reported
from api.services import services
from core.cameras import camera_id
from core.redis.api_keys import Scope
from core.redis.camera_reports import About, CameraStatus, now_ms

blueprint = Blueprint("cameras", __name__, url_prefix="/v1/cameras")

_UNKNOWN = CameraStatus(About(), None)


@blueprint.get("")
@requires(Scope.READ)
@by_camera
@operation({200: Answer("The cameras.", Cameras)})
def show() -> Response:
    """List the cameras.

    Those that have sent an image, that a gateway reports, or that an operator has described. A key that is
    bound to cameras gets its own only.
    """
    reported, totals = services().camera_reports.cameras(), services().ledger.totals()
    now = time.time()
    return respond_with(
        Cameras(
            cameras=[
                CameraOutput.of(
                    camera,
                    reported.get(camera, _UNKNOWN),
                    totals[camera]["received"] if camera in totals else 0,
                    now,
                )
                for camera in sorted(filter(caller().sees, reported.keys() | totals.keys()))
            ]
        )
    )


@blueprint.put("/<camera>")
@requires(Scope.ADMIN)
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
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
    status = services().camera_reports.cameras().get(name, _UNKNOWN)
    totals = services().ledger.totals()
    received = totals[name]["received"] if name in totals else 0
    return respond_with(CameraOutput.of(name, status, received, time.time()))


@blueprint.post("/<camera>/report")
@requires(Scope.INGEST)
@by_camera
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
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
