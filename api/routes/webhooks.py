"""`/v1/webhooks`: targets to which results are posted."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response

from api.auth.policy import requires
from api.http.body import JSON, MAX_JSON_BYTES, accepts_body
from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.http.validation import read_document
from api.openapi.operation import Answer, Body, operation, respond_with
from api.schemas.webhooks import CreatedWebhook, NewWebhook, Replay, Webhooks, WebhookStatus
from api.services import services
from core.errors import TargetError, WebhookNotFoundError
from core.redis.api_keys import Scope
from core.redis.feed import Cursor
from core.redis.sinks import SinkState
from core.redis.webhooks import Webhook
from core.webhook_target import allowed_addresses, parse_target

blueprint = Blueprint("webhooks", __name__, url_prefix="/v1/webhooks")


@blueprint.post("")
@requires(Scope.ADMIN)
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
    "createWebhook",
    {201: Answer("The webhook, with its secret.", CreatedWebhook)},
    problems=[ProblemType.TARGET_REFUSED, ProblemType.TOO_MANY_WEBHOOKS],
    body=Body(NewWebhook),
)
def create() -> tuple[Response, int]:
    """Make a webhook.

    Results that settle from now on are posted to it in batches of up to 100, in the order of settling, at
    least once, signed by the rules of Standard Webhooks. See `docs/how-to/receive-webhooks.md`.
    """
    new = read_document(NewWebhook)
    _check_target(new.url)
    webhook = services().webhooks.create(new.url, new.cameras, new.states)
    return respond_with(CreatedWebhook.of(webhook, _sinks()[webhook.sink])), HTTPStatus.CREATED


@blueprint.get("")
@requires(Scope.ADMIN)
@operation("listWebhooks", {200: Answer("The webhooks.", Webhooks)})
def show() -> Response:
    """List the webhooks.

    With the delay of each, and the error of its last attempt.
    """
    webhooks, sinks = services().webhooks.all(), _sinks()
    known = [webhook for webhook in webhooks if webhook.sink in sinks]  # not deleted meanwhile
    return respond_with(Webhooks(webhooks=[WebhookStatus.of(each, sinks[each.sink]) for each in known]))


@blueprint.delete("/<webhook_id>")
@requires(Scope.ADMIN)
@operation(
    "deleteWebhook",
    {200: Answer("The webhook as it was.", WebhookStatus)},
    problems=[ProblemType.WEBHOOK_NOT_FOUND],
)
def delete(webhook_id: str) -> Response:
    """Delete a webhook.

    A delivery in progress may still end; two seconds later no other begins.
    """
    webhook = services().webhooks.find(webhook_id)
    status = _status(webhook)
    services().webhooks.delete(webhook)
    return respond_with(status)


@blueprint.post("/<webhook_id>/replay")
@requires(Scope.ADMIN)
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
    "replayWebhook",
    {202: Answer("The webhook, which is active.", WebhookStatus)},
    problems=[ProblemType.WEBHOOK_NOT_FOUND, ProblemType.CURSOR_EXPIRED],
    body=Body(Replay),
)
def replay(webhook_id: str) -> tuple[Response, int]:
    """Replay a webhook.

    It continues at a cursor or a time, or without either where it stopped, as soon as a delivery in
    progress has ended. A dead one becomes active.
    """
    webhook = services().webhooks.find(webhook_id)
    services().webhooks.replay(webhook, _start(read_document(Replay)))
    return respond_with(_status(webhook.revived())), HTTPStatus.ACCEPTED


def _check_target(url: str) -> None:
    target = parse_target(url)
    try:
        allowed_addresses(target.host, target.port, services().settings.webhook_networks)
    except TargetError as error:
        raise RequestError(ProblemType.TARGET_REFUSED, f"The URL {error}.") from error


def _start(replay: Replay) -> Cursor | None:
    window = services().feed.window()
    if replay.after is not None and replay.first is not None:
        raise RequestError(ProblemType.INVALID_BODY, "Send after or from, not both.")
    if replay.first is not None:
        return max(window.restart, Cursor(round(replay.first.timestamp() * 1000)))
    if replay.after is not None:
        window.check(replay.after)
    return replay.after


def _status(webhook: Webhook) -> WebhookStatus:
    sink = _sinks().get(webhook.sink)
    if sink is None:  # deleted meanwhile
        raise WebhookNotFoundError(webhook.id)
    return WebhookStatus.of(webhook, sink)


def _sinks() -> dict[str, SinkState]:
    """Return the state of each sink by its name."""
    return {state.name: state for state in services().sinks.states()}
