"""Webhooks, and the requests that make and replay them."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from api.schemas.base import CAMERAS_PATTERN, Input, Moment, Output, Timestamp, WebhookId
from api.schemas.results import FeedCursor
from core.cameras import camera_pattern
from core.errors import CameraPatternError, TargetError
from core.jobs import JobState
from core.redis.ledger import TERMINAL
from core.redis.sinks import SinkState
from core.redis.webhooks import Webhook
from core.times import optional_timestamp, timestamp
from core.webhook_target import MAX_URL_LENGTH, parse_target

_MAX_PATTERNS: Final = 100


def _target(url: str) -> str:
    try:
        parse_target(url)
    except TargetError as error:
        raise ValueError(str(error)) from error
    return url


def _pattern(text: str) -> str:
    try:
        return camera_pattern(text)
    except CameraPatternError as error:
        raise ValueError(f"is wrong: {error}") from error


def _state(text: object) -> object:
    if text not in TERMINAL:
        raise ValueError(f"is not a terminal state; use {', '.join(TERMINAL)}")
    return text


Url = Annotated[
    str,
    AfterValidator(_target),
    Field(
        description="Target of the results, http or https. Redirects are not followed.",
        json_schema_extra={"format": "uri", "maxLength": MAX_URL_LENGTH},
        examples=["https://example.com/results"],
    ),
]

Cameras = Annotated[
    list[
        Annotated[
            str,
            AfterValidator(_pattern),
            WithJsonSchema({"type": "string", "pattern": CAMERAS_PATTERN}),
        ]
    ],
    Field(
        description="Patterns of the cameras whose results it gets; `*` stands for any characters.",
        min_length=1,
        max_length=_MAX_PATTERNS,
        examples=[["belt-*"]],
    ),
]

States = Annotated[
    list[
        Annotated[
            JobState, BeforeValidator(_state), WithJsonSchema({"type": "string", "enum": list(TERMINAL)})
        ]
    ],
    Field(description="States of the results that it gets.", min_length=1, max_length=len(TERMINAL)),
]


class NewWebhook(Input):
    """A webhook to make."""

    url: Url
    cameras: Cameras = Field(default=["*"])
    states: States = Field(default=list(map(JobState, TERMINAL)))


class Replay(Input):
    """Cursor or time at which a replay begins; without either, the webhook continues where it stopped."""

    after: Annotated[
        FeedCursor | None, Field(description="Cursor after which to go on: `data.cursor` of a delivery.")
    ] = None
    first: Annotated[
        Moment | None,
        Field(
            alias="from",
            description="Instead of `after`: time of settling from which to go on, a date (midnight UTC) or "
            "an RFC 3339 time with zone.",
        ),
    ] = None


class WebhookStatus(Output):
    """A webhook, and its progress."""

    id: WebhookId
    url: Url
    cameras: Cameras
    states: States
    created_at: Timestamp
    state: Annotated[
        Literal["active", "dead"],
        Field(
            description="`dead` after 24 hours in which a delivery failed, or a 410: it gets nothing until "
            "it is replayed."
        ),
    ]
    cursor: Annotated[
        str,
        Field(
            description="Cursor of the feed: everything before it is delivered.",
            examples=["1769843700412-0-1"],
        ),
    ]
    behind: Annotated[
        float,
        Field(description="Seconds since the oldest undelivered result; 0 without one.", examples=[0.0]),
    ]
    failing_since: Annotated[
        Timestamp | None,
        Field(description="First failure of the delivery that is retried.", examples=[None]),
    ]
    error: Annotated[
        str, Field(description="Error of the last attempt; empty if it succeeded.", examples=[""])
    ]
    gaps: Annotated[int, Field(description="Times that results expired before it read them.", examples=[0])]

    @classmethod
    def of(cls, webhook: Webhook, sink: SinkState) -> Self:
        """Return a webhook with the state of its sink."""
        return cls(**_members(webhook, sink))


class CreatedWebhook(WebhookStatus):
    """A new webhook, with its secret."""

    secret: Annotated[
        str,
        Field(
            description="Key of the signatures (Standard Webhooks). It is shown only once.",
            examples=["whsec_..."],
        ),
    ]

    @classmethod
    def of(cls, webhook: Webhook, sink: SinkState) -> Self:
        """Return a new webhook."""
        return cls(**_members(webhook, sink), secret=webhook.secret)


def _members(webhook: Webhook, sink: SinkState) -> dict[str, object]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "cameras": list(webhook.cameras),
        "states": list(webhook.states),
        "created_at": timestamp(webhook.created_ms),
        "state": "active" if webhook.dead_ms is None else "dead",
        "cursor": sink.cursor,
        "behind": sink.behind,
        "failing_since": optional_timestamp(webhook.failing_ms),
        "error": sink.error,
        "gaps": sink.gaps,
    }


class Webhooks(Output):
    """All webhooks."""

    webhooks: Annotated[list[WebhookStatus], Field(description="Oldest first.")]
