"""Lua scripts, and several calls of one in a single round trip."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import redis
from redis.exceptions import NoScriptError, RedisError

Call = tuple[Sequence[str], Sequence[str | int]]
"""Keys and arguments of a script."""


def script(name: str) -> str:
    """Return the text of a Lua script."""
    return (files("core") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


class PipelinedScript:
    """A script that is called several times at once, each call by itself atomic."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._client = client
        self._script: Final = client.register_script(script(name))

    def __call__(self, calls: Sequence[Call]) -> list[str | RedisError]:
        """Return the answer to each call, in order, or Redis' error.

        Raises:
            RedisError: no answer, so any of the calls may have been done.
        """
        answers = self._run(calls)
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # Redis was started anew, or has never seen it.
            self._client.script_load(self._script.script)
            for number, answer in zip(unknown, self._run([calls[at] for at in unknown]), strict=True):
                answers[number] = answer
        return answers

    def _run(self, calls: Sequence[Call]) -> list[str | RedisError]:
        with self._client.pipeline(transaction=False) as pipe:
            for keys, arguments in calls:
                pipe.evalsha(self._script.sha, len(keys), *keys, *arguments)
            return pipe.execute(raise_on_error=False)
