"""Filters by the state of jobs: repeated, or separated by commas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

from core.jobs import JobState
from core.redis.ledger import TERMINAL

_STATES: Final = [state.value for state in JobState]


def _parser(names: Sequence[str], kind: str) -> Callable[[list[str]], frozenset[JobState]]:
    def parse(texts: list[str]) -> frozenset[JobState]:
        states = [state for text in texts for state in text.split(",")]
        for state in states:
            if state not in names:
                raise ValueError(
                    f"has {state[:40]!r}, which is not a {kind}; use {', '.join(names)}, or several of them"
                )
        return frozenset(map(JobState, states))

    return parse


StateFilter = Annotated[
    frozenset[JobState] | None,
    BeforeValidator(_parser(_STATES, "state")),
    WithJsonSchema({"type": "array", "items": {"type": "string", "enum": _STATES}}),
]

TerminalStateFilter = Annotated[
    frozenset[JobState] | None,
    BeforeValidator(_parser(TERMINAL, "terminal state")),
    WithJsonSchema({"type": "array", "items": {"type": "string", "enum": list(TERMINAL)}}),
]
