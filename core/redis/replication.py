"""Confirmation of writes by Redis' replicas.

Redis replicates after it has answered. A master that dies takes with it what its replicas have not received
by then, among it jobs whose images were answered 202. `WAIT` tells when replicas have received a write.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError

from core.errors import NotReplicatedError
from core.redis import keys
from core.redis.client import translated

CONFIRM_MS: Final = 2_000
"""Milliseconds for which a write waits for replicas; replication on one network takes one or two."""

_RECHECK_MS: Final = 200
"""Milliseconds for which an upload waits to learn whether replicas that did not confirm are back."""

TTL: Final = 60  # seconds that `keys.PING` stays


class Replication:
    """Runs writes, and returns when replicas have them. Safe to share between threads, not across a fork.

    Args:
        client: of the master.
        replicas: number of replicas that must confirm; with 0 nothing is waited for.
    """

    def __init__(self, client: redis.Redis, replicas: int) -> None:
        self._client = client
        self.replicas = replicas
        self._missing = False  # whether too few have confirmed the latest write

    def run(self, script: Script, names: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script; return its answer.

        Raises:
            NotReplicatedError: the master has run it, but too few replicas have confirmed.
            redis.RedisError: as the script.
        """
        if not self.replicas:
            return script(names, arguments)
        for _ in range(2):
            with suppress(NoScriptError):  # Redis was restarted, or another one is the master now.
                return self._run(script, names, arguments)
            self._client.script_load(script.script)
        return self._run(script, names, arguments)

    def check(self) -> None:
        """Check that replicas confirm again, if they did not; so nothing new is accepted without them.

        Raises as `confirm`.
        """
        if self._missing:
            self.confirm(_RECHECK_MS)

    def confirm(self, milliseconds: int = CONFIRM_MS) -> None:
        """Write a key, and return when replicas have it: they then have all that was written before, too.

        With 0 replicas it does nothing.

        Raises:
            NotReplicatedError: too few replicas have confirmed.
            RedisUnavailableError: Redis does not answer, or cannot write.
        """
        if not self.replicas:
            return
        with translated(), self._client.pipeline(transaction=False) as pipe:
            self._execute(pipe, milliseconds)

    def _run(self, script: Script, names: Sequence[str], arguments: Sequence[Any]) -> Any:
        with self._client.pipeline(transaction=False) as pipe:
            pipe.evalsha(script.sha, len(names), *names, *arguments)
            return self._execute(pipe, CONFIRM_MS)[0]

    def _execute(self, pipe: redis.client.Pipeline, milliseconds: int) -> list[Any]:
        """Execute a pipeline, with a write at its end that the replicas confirm.

        The write is there because `WAIT` only looks at what its own connection has written: a script that
        is repeated after a broken connection may find everything done, and write nothing.
        """
        pipe.set(keys.PING, "1", ex=TTL)
        pipe.wait(self.replicas, milliseconds)
        answers = pipe.execute()
        self._missing = answers[-1] < self.replicas
        if self._missing:
            raise NotReplicatedError(
                f"{answers[-1]} of {self.replicas} replicas of Redis (WASTESTREAM_REDIS_REPLICAS) confirmed "
                f"a write within {milliseconds / 1000:g} s. The images may be accepted all the same; sent "
                "again with the same Idempotency-Key, each is accepted once."
            )
        return answers
