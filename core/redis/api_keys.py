"""API keys and their scopes. The keys themselves are never stored, only their hashes.

A key is 192 random bits, so guessing is hopeless and a fast hash protects it: SHA-256 takes 0.4 µs, where
bcrypt or scrypt, made for passwords that people think up, would cost each upload tens of milliseconds.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, cast

import redis

from core.cameras import matches
from core.errors import KeyBindingError, KeyNotFoundError, NameTakenError
from core.redis.admission import RateLimit
from core.redis.client import translated
from core.redis.keys import API_KEYS, API_KEYS_VERSION

_MARK: Final = "ws"  # begins every key, so that people and secret scanners know one when they see it
_ID_BYTES: Final = 5
_SECRET_BYTES: Final = 24

MAX_KEY_LENGTH: Final = 256
"""Maximum characters of a key."""

NAME_RULE: Final = "use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
"""Valid names of keys, for messages."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Scope(StrEnum):
    """A right that a key gives."""

    INGEST = "ingest"
    """Send images, and cancel the jobs of images that the key itself has sent."""
    READ = "read"
    """See jobs, images and figures."""
    ADMIN = "admin"
    """Everything."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key's record. Times are milliseconds since 1970.

    `digest` is the SHA-256 of the whole key, hexadecimal; empty once the key is revoked. `rate` (images per
    second) and `burst` (images) are None where the server's settings hold; a rate of 0 is no limit. `cameras`
    are the patterns (`core.cameras.camera_pattern`) of the cameras that it is bound to; None for all.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    digest: str
    created_ms: int
    expires_ms: int | None = None
    rate: float | None = None
    burst: int | None = None
    revoked_ms: int | None = None
    cameras: tuple[str, ...] | None = None

    def sees(self, camera: str) -> bool:
        """Return whether it is for this camera."""
        return self.cameras is None or matches(camera, self.cameras)

    def allows(self, scope: Scope) -> bool:
        """Return whether the key gives the right `scope`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def opens_with(self, token: str) -> bool:
        """Return whether `token` is this key, neither revoked nor expired. Takes the same time for all."""
        equal = hmac.compare_digest(digest_of(token), self.digest)
        return equal and self.valid

    @property
    def valid(self) -> bool:
        """Whether it is neither revoked nor expired."""
        expired = self.expires_ms is not None and time.time() * 1000 >= self.expires_ms
        return self.revoked_ms is None and not expired

    def limit(self, rate: float, burst: int) -> RateLimit | None:
        """Return how many images it may send; `rate` and `burst` hold where the key has none of its own."""
        own = rate if self.rate is None else self.rate
        return RateLimit(self.id, own, burst if self.burst is None else self.burst) if own else None


def digest_of(token: str) -> str:
    """Return the hash of a key, which is stored."""
    # JSON can hold half of a surrogate pair. No key of ours does, and its sender is to be told so.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def id_in(token: str) -> str:
    """Return the id of the key that `token` claims to be, its part between the underscores."""
    return token.partition("_")[2].partition("_")[0]


def is_key_name(text: str) -> bool:
    """Return whether `text` can be a key's name: safe in logs and on command lines."""
    return _NAME.fullmatch(text) is not None


class KeyStore:
    """Makes, lists and revokes keys. Every method raises `RedisUnavailableError` while Redis is down."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        *,
        expires_ms: int | None = None,
        rate: float | None = None,
        burst: int | None = None,
        cameras: Sequence[str] = (),
    ) -> tuple[Key, str]:
        """Make a key; fields as of `Key`, but `cameras` are empty for all.

        Returns:
            Its record, and the key itself, which nothing can show again.

        Raises:
            KeyBindingError: it would be bound to cameras, and have the scope `admin`.
            NameTakenError: a valid key has this name.
        """
        granted = frozenset(scopes)
        if cameras and Scope.ADMIN in granted:
            raise KeyBindingError(
                "A key with the scope admin is for everything and cannot be bound to cameras; leave one out."
            )
        if any(key.name == name and key.valid for key in self.all()):
            raise NameTakenError(f"There is a key called {name!r}; choose another name, or revoke that one.")
        key_id = secrets.token_hex(_ID_BYTES)
        token = f"{_MARK}_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
        created = time.time_ns() // 1_000_000
        key = Key(
            key_id,
            name,
            granted,
            digest_of(token),
            created,
            expires_ms,
            rate,
            burst,
            cameras=tuple(cameras) or None,
        )
        self._write(key)
        return key, token

    def revoke(self, name_or_id: str) -> Key:
        """Make a key worthless for ever; its record stays, without its hash.

        Raises:
            KeyNotFoundError: no key that is not yet revoked has this name or id.
        """
        keys = [key for key in self.all() if key.revoked_ms is None and name_or_id in {key.id, key.name}]
        if not keys:
            raise KeyNotFoundError(
                f"No key is called {name_or_id!r} or has that id, or it is revoked already."
            )
        if len(keys) > 1:
            ids = ", ".join(key.id for key in keys)
            raise KeyNotFoundError(f"Several keys are called {name_or_id!r}; name one by its id: {ids}.")
        revoked = replace(keys[0], digest="", revoked_ms=time.time_ns() // 1_000_000)
        self._write(revoked)
        return revoked

    def all(self) -> list[Key]:
        """Return every key, revoked ones too, oldest first."""
        with translated():
            records = cast(dict[str, str], self._client.hgetall(API_KEYS))
        keys = [_from_record(key_id, json.loads(record)) for key_id, record in records.items()]
        return sorted(keys, key=lambda key: (key.created_ms, key.id))

    def version(self) -> str | None:
        """Return a value that changes with every key made or revoked; None while there was none."""
        with translated():
            return cast("str | None", self._client.get(API_KEYS_VERSION))

    def _write(self, key: Key) -> None:
        with translated(), self._client.pipeline() as pipe:
            pipe.hset(API_KEYS, key.id, json.dumps(_to_record(key)))
            pipe.set(API_KEYS_VERSION, secrets.token_hex(8))
            pipe.execute()


def _to_record(key: Key) -> dict[str, Any]:
    record = {
        "name": key.name,
        "scopes": sorted(key.scopes),
        "sha256": key.digest,
        "created": key.created_ms,
        "expires": key.expires_ms,
        "rate": key.rate,
        "burst": key.burst,
        "revoked": key.revoked_ms,
        "cameras": key.cameras,
    }
    return {field: value for field, value in record.items() if value is not None}


def _from_record(key_id: str, record: dict[str, Any]) -> Key:
    cameras = record.get("cameras")
    return Key(
        id=key_id,
        name=record["name"],
        scopes=frozenset(Scope(scope) for scope in record["scopes"]),
        digest=record["sha256"],
        created_ms=record["created"],
        expires_ms=record.get("expires"),
        rate=record.get("rate"),
        burst=record.get("burst"),
        revoked_ms=record.get("revoked"),
        cameras=None if cameras is None else tuple(cameras),
    )
