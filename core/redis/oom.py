"""A Redis client for work that must go on when Redis has no memory left.

At `maxmemory` Redis rejects every write that could take more: uploads, as it should, but also the writes of
workers, which settle jobs and so free memory. Those are small and few; this client lets them pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from redis.client import Pipeline
from redis.commands.core import Script
from redis.exceptions import OutOfMemoryError

from core.redis.client import Client
from core.redis.keys import NOTHING
from core.redis.scripts import load_script

_SCRIPT: Final = load_script("oom")


class OomTolerantRedis(Client):
    """Repeats commands, transactions and scripts that Redis rejects for want of memory, so that they pass.

    Pipelines that are no transactions stay rejected: part of them may have been done.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except OutOfMemoryError:
            return self.force([(args, options)])[0]

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Pipeline:  # noqa: FBT002 - redis-py's
        """Return a pipeline whose transactions pass."""
        return OomTolerantPipeline(self, transaction, shard_hint)

    def register_script(self, script: Any) -> Script:
        """Return a script that passes: it begins with a write that is always allowed."""
        return super().register_script(f"redis.call('DEL', '{NOTHING}')\n{script}")

    def force(self, commands: Sequence[tuple[Sequence[Any], dict[str, Any]]]) -> list[Any]:
        """Run commands, as redis-py keeps them, in one step that is not rejected; return their answers.

        Answers to reads may be less refined than redis-py's own: scripts answer in RESP2.
        """
        words: list[Any] = []
        for args, _ in commands:
            name, *rest = args
            split = [*str(name).split(), *rest]  # as redis-py sends a command of two words
            words += [len(split), *split]
        answers = self.eval(_SCRIPT, 1, NOTHING, *words)
        return [
            self._converted(answer, *command)
            for answer, command in zip(cast(list[Any], answers), commands, strict=True)
        ]

    def _converted(self, answer: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
        callbacks: dict[Any, Any] = dict(self.response_callbacks)
        convert = callbacks.get(args[0])
        return answer if convert is None else convert(answer, **options)


class OomTolerantPipeline(Pipeline):
    """A pipeline of an `OomTolerantRedis`."""

    def __init__(self, client: OomTolerantRedis, transaction: Any, shard_hint: Any) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client

    def execute(self, raise_on_error: Any = True) -> list[Any]:  # noqa: FBT002 - redis-py's
        """Run the pipeline."""
        commands = list(self.command_stack)
        transaction: Any = self.transaction  # redis-py's types take it for the method of the same name
        whole = transaction or self.explicit_transaction
        try:
            return super().execute(raise_on_error)
        except OutOfMemoryError:
            if not whole:
                raise
            return self._client.force(commands)  # Redis has dropped the whole transaction.
