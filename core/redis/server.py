"""Check of a Redis server: it must not evict keys, and its user needs the rights of the programs.

A server that is not lets jobs vanish, or takes them and keeps the workers out; both look like success.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final

import redis
from redis.client import Pipeline
from redis.exceptions import ExecAbortError, NoPermissionError

from core.errors import EvictionError, MissingRightsError, RedisUnavailableError
from core.lanes import SINGLE
from core.messages import QUEUES
from core.redis import keys
from core.redis.client import translated
from core.redis.replication import Replication

logger = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 60.0
"""Seconds between checks of a fit server."""

UNFIT_CHECK_INTERVAL: Final = 1.0
"""Seconds between checks of an unfit server, so that work resumes soon after a repair."""

_OURS: Final = f"{keys.PREFIX}*"

_COMMANDS: Final = """
    BRPOP k 1, DEL k, EVAL s 1 k, EVALSHA s 1 k, EXISTS k, EXPIRE k 1, GET k, HDEL k f, HGET k f, HGETALL k,
    HINCRBY k f 1, HLEN k, HMGET k f, HSET k f v, HVALS k, INFO memory, LINDEX k 0, LLEN k, LPUSH k v,
    LRANGE k 0 0, PEXPIRE k 1, PING, PUBLISH c m, PUNSUBSCRIBE c, RPOP k, RPUSH k v, SADD k m,
    SCRIPT EXISTS s, SCRIPT LOAD s, SELECT 0, SET k v, SMEMBERS k, SREM k m, SUBSCRIBE c, TIME,
    UNSUBSCRIBE c, XADD k * f v,
    XRANGE k - +, XREAD STREAMS k 0, XREVRANGE k + -, XTRIM k MAXLEN 0, ZADD k 1 m, ZCARD k, ZMSCORE k m,
    ZRANGE k 0 0, ZRANGEBYSCORE k 0 0, ZRANK k m, ZREM k m, ZREMRANGEBYSCORE k 0 0, ZREVRANGE k 0 0,
    ZSCORE k m
"""
"""Commands of the programs, their Lua scripts and kombu; `k` is a key, `c` a channel."""

_WAIT: Final = "WAIT 0 1"
"""Command of `WASTESTREAM_REDIS_REPLICAS`."""

_OUTSIDE: Final = {"EXEC": "command EXEC", "WATCH k": f"keys {_OURS}", "UNWATCH": ""}
"""Commands that are no part of a transaction, and their subjects. They do no harm outside one."""

_PATTERNS: Final = {
    _OURS: (keys.RIGHTS,),
    "wastestream.*": tuple(QUEUES.values()),
    f"{keys.UNACKED}*": (keys.UNACKED, keys.UNACKED_INDEX, keys.UNACKED_MUTEX),
    f"{keys.BINDING}*": (keys.binding(QUEUES[SINGLE]), keys.BINDING_DEADLINES),
    f"*{keys.CONTROL}": (f"_.reply{keys.CONTROL}",),
}
"""Pattern of keys to examples that are in use."""


def acl_rules(db: int = 0) -> str:
    """Return the rules of a user with the least sufficient rights, for Redis' `ACL SETUSER`."""
    commands = [*_commands(), *_OUTSIDE, "MULTI", "DISCARD", "PSUBSCRIBE", _WAIT]
    names = sorted({_name(command).lower().replace(" ", "|") for command in commands})
    rules = [f"~{pattern}" for pattern in _PATTERNS]
    rules += [f"&{channel}" for channel in (keys.SETTLED, keys.control_channel(db))]
    return " ".join(["resetkeys", "resetchannels", "-@all", *rules, *(f"+{name}" for name in names)])


class RedisServer:
    """Checks a server every `CHECK_INTERVAL`. Safe to share between threads, not across a fork."""

    def __init__(self, client: redis.Redis, replication: Replication | None = None) -> None:
        self._client = client
        self._replication = replication or Replication(client, 0)
        self._lock = threading.Lock()
        self._next = 0.0  # on the monotonic clock
        self._unfit: EvictionError | MissingRightsError | None = None

    def check(self) -> None:
        """Check that the server is fit, or was at the last check.

        Raises:
            MissingRightsError, EvictionError: it is not.
            NotReplicatedError: too few replicas confirmed the latest write, and still do not.
            RedisUnavailableError: it cannot be asked.
        """
        # While one thread checks, which can take a time-out, others take the last result, if there is one.
        if time.monotonic() >= self._next and self._lock.acquire(blocking=self._next == 0):
            try:
                if time.monotonic() >= self._next:
                    self._look()
            finally:
                self._lock.release()
        if self._unfit is not None:
            raise type(self._unfit)(str(self._unfit))  # a new one: errors gather tracebacks
        self._replication.check()

    def _look(self) -> None:
        pause = UNFIT_CHECK_INTERVAL
        try:
            check_server(self._client, replicas=self._replication.replicas)
            self._unfit, pause = None, CHECK_INTERVAL
        except (EvictionError, MissingRightsError) as error:
            self._unfit = error.with_traceback(None)
        finally:
            self._next = time.monotonic() + pause


def check_server(client: redis.Redis, *, replicas: int = 0) -> None:
    """Check that the server is fit, for uploads that some replicas confirm too.

    Raises:
        MissingRightsError: its user may not do something; the message names it.
        EvictionError: it drops keys when its memory is full.
        RedisUnavailableError: it cannot be asked.
    """
    with translated():
        missing = list(dict.fromkeys(_missing(client, replicas)))
        if missing:
            raise MissingRightsError(
                f"Redis' user may not use: {', '.join(missing)}. Give it the rights in docs/operations.md."
            )
        policy = client.info("memory").get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise EvictionError(
            f"Redis drops jobs when its memory is full: its maxmemory-policy is {policy}. "
            "Set it to noeviction."
        )


def log_unfit(client: redis.Redis) -> None:
    """Log an error if the server is not fit."""
    try:
        check_server(client)
    except (EvictionError, MissingRightsError) as error:
        logger.error("%s", error)  # noqa: TRY400 - the sentence is all there is to know
    except RedisUnavailableError as error:
        logger.debug("Not known whether Redis is fit: %s", error)


def _missing(client: redis.Redis, replicas: int) -> Iterator[str]:
    """Yield the commands, keys and channels that the user may not use, in words."""
    yield from _denied(client, [*_OUTSIDE.items(), *([(_WAIT, "")] if replicas else [])])
    ends = _denied(client, [("DISCARD", "")]) or _denied(client, [("MULTI", ""), ("DISCARD", "")])
    if ends:
        yield from ends
    else:
        # A proxy, or a renamed command, would have what follows run.
        if any(answer not in {"OK", b"OK"} for answer in _answers(client, ["MULTI", "DISCARD"])):
            yield "command MULTI"
            return
        # Between MULTI and DISCARD Redis denies the same commands as outside, and runs none.
        yield from _denied(client, [("MULTI", ""), *_questions(client), ("DISCARD", "")])


def _questions(client: redis.Redis) -> Iterator[tuple[str, str]]:
    """Yield commands, and the keys or the channel that each is about."""
    for command in _commands():
        yield command, f"channel {keys.SETTLED}" if command.endswith((" c", " c m")) else f"keys {_OURS}"
    for pattern, examples in _PATTERNS.items():
        for key in examples:
            yield f"EXISTS {key}", f"keys {pattern}"
        yield f"DEL {pattern.replace('*', '.rights')}", f"keys {pattern}"  # a key that never exists
    control = keys.control_channel(client.connection_pool.connection_kwargs.get("db", 0))
    yield f"PUBLISH {control} m", f"channel {control}"
    yield f"PSUBSCRIBE {control}", f"channel {control}"


def _denied(client: redis.Redis, questions: Iterable[tuple[str, str]]) -> list[str]:
    """Send commands as they are; return the command or the subject of each that the user may not use."""
    asked = list(questions)
    answers = _answers(client, [command for command, _ in asked])
    return [
        f"command {_name(command)}" if "command" in str(answer) else subject
        for (command, subject), answer in zip(asked, answers, strict=True)
        if isinstance(answer, NoPermissionError | ExecAbortError)  # The latter is how EXEC says it.
    ]


def _answers(client: redis.Redis, commands: Iterable[str]) -> list[object]:
    """Send commands as they are; return the answers, errors among them."""
    pipe = Pipeline(client.connection_pool, {}, transaction=False, shard_hint=None)
    for command in commands:
        words = [{"k": keys.RIGHTS, "c": keys.SETTLED}.get(word, word) for word in command.split()]
        pipe.pipeline_execute_command(*words)
    return list(pipe.execute(raise_on_error=False))


def _commands() -> list[str]:
    return [command.strip() for command in _COMMANDS.split(",")]


def _name(command: str) -> str:
    """Return a command's name, which may be of two words."""
    name, *rest = command.split()
    return f"{name} {rest[0]}" if name == "SCRIPT" else name
