"""Announcements of direct uploads. An upload's id contains the announcement, so the server keeps nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import astuple, dataclass
from typing import Final

from core.ids import accepted_ms
from core.image_header import MEDIA_TYPES
from core.redis.admission import Idempotency
from core.shards import Shard, image_key

_MAC_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Announcement:
    """Announced image, which the client puts into storage itself.

    `job_id`: of the job that the image will have; the time in it is that of the announcement. `shard`: as of
    `core.jobs.Job`. `format`: a key of `MEDIA_TYPES`. `size`: bytes. `captured_ms`, `expires_ms`: as of
    `api.ingest.commit.Origin`. `owner`: id of the client's API key, empty without one.
    """

    job_id: str
    shard: str
    format: str
    size: int
    camera: str
    captured_ms: int | None
    expires_ms: int | None
    idempotency_key: str | None
    owner: str

    @classmethod
    def new(
        cls,
        image_format: str,
        size: int,
        camera: str,
        *,
        captured_ms: int | None,
        expires_ms: int | None,
        idempotency_key: str | None,
        owner: str,
    ) -> Announcement:
        """Return an announcement of now."""
        shard = Shard.direct(image_format)
        return cls(
            shard.id,
            shard.suffix,
            image_format,
            size,
            camera,
            captured_ms,
            expires_ms,
            idempotency_key,
            owner,
        )

    @classmethod
    def opened(cls, token: str, secret: bytes) -> Announcement | None:
        """Return the announcement in an id; None if the id was not made with this secret."""
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return None
        mac, content = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        return cls(*json.loads(content)) if hmac.compare_digest(mac, _mac(content, secret)) else None

    def sealed(self, secret: bytes) -> str:
        """Return an id that contains this announcement, authenticated by the secret."""
        content = json.dumps(astuple(self), ensure_ascii=False, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(_mac(content, secret) + content).decode().rstrip("=")

    @property
    def object_key(self) -> str:
        """Key of the object that the client puts."""
        return image_key(self.job_id, self.camera, self.format, self.shard)

    @property
    def media_type(self) -> str:
        """Media type of the image."""
        return MEDIA_TYPES[self.format]

    @property
    def announced_ms(self) -> int:
        """Time of the announcement, milliseconds since 1970."""
        return accepted_ms(self.job_id)

    @property
    def age(self) -> float:
        """Seconds since it was announced."""
        return time.time() - self.announced_ms / 1000

    @property
    def idempotency(self) -> Idempotency | None:
        """Its idempotency key; other images differ from it in camera, type or size."""
        if self.idempotency_key is None:
            return None
        content = json.dumps([self.camera, self.format, self.size]).encode()
        digest = hashlib.blake2b(content, digest_size=16, person=b"direct").hexdigest()
        return Idempotency(self.idempotency_key, digest, self.owner)


def _mac(content: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, content, "sha256")[:_MAC_BYTES]
