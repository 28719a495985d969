"""Responses of the probes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.base import Output


class Liveness(Output):
    """The process serves requests."""

    status: Literal["alive"] = "alive"


class RunningModel(Output):
    """Weights that workers run."""

    engine: Annotated[str, Field(description="`float`, `int8` or `tensorflow`.", examples=["float"])]
    model: Annotated[
        str,
        Field(description="Version and SHA-256 of the weights.", examples=["2026.11.27-1434+6fa13b7026b1"]),
    ]
    workers: Annotated[int, Field(description="Workers that run them.", ge=1, examples=[2])]


class Sink(Output):
    """A reader of the feed that carries results out of the system."""

    name: Annotated[str, Field(description="Its name.", examples=["archive"])]
    behind: Annotated[
        float,
        Field(
            description="Seconds since the oldest undelivered result was due; 0 without one.",
            examples=[0.0],
        ),
    ]
    error: Annotated[str, Field(description="Error that stops it; empty while it works.", examples=[""])]
    gaps: Annotated[int, Field(description="Times that results expired before it read them.", examples=[0])]


class Readiness(Output):
    """State of every dependency. Members after `paused` are for keys with the scope `read`."""

    status: Annotated[
        Literal["ready", "not ready"],
        Field(description="Whether every check is `ok`; warnings do not count."),
    ]
    checks: Annotated[
        dict[str, str],
        Field(
            description="`ok`, or the reason, of `redis`, `storage`, `installation` and, while it is full, "
            "`disk`.",
            examples=[{"redis": "ok", "storage": "ok", "installation": "ok"}],
        ),
    ]
    warnings: Annotated[
        dict[str, str] | None,
        Field(
            description="Problems that need an operator, although the API is ready; absent without one.",
            examples=[{"workers": "Jobs wait, and no worker has reported for 60 seconds."}],
        ),
    ] = None
    paused: Annotated[
        list[str] | None,
        Field(
            description="Lanes, `single` or `bulk`, of which workers take no jobs; absent if Redis is down.",
            examples=[["bulk"]],
        ),
    ] = None
    workers: Annotated[int | None, Field(description="Workers seen lately.", examples=[2])] = None
    models: Annotated[list[RunningModel] | None, Field(description="Weights that they run.")] = None
    sinks: Annotated[list[Sink] | None, Field(description="Sinks of the feed.")] = None
    pending: Annotated[int | None, Field(description="Jobs that have not settled.", examples=[7])] = None
    runnable: Annotated[
        int | None,
        Field(description="Pending jobs in lanes that are not paused.", examples=[7]),
    ] = None
    oldest_seconds: Annotated[
        float | None,
        Field(
            description="Seconds for which the oldest runnable job has waited; 0 without one.", examples=[0.4]
        ),
    ] = None
    balanced: Annotated[
        bool | None, Field(description="Whether the ledger agrees with the jobs.", examples=[True])
    ] = None
