"""Secret that authenticates ids of direct uploads, the same for all API processes."""

from __future__ import annotations

import secrets
from typing import cast

import redis

from core.redis.client import translated
from core.redis.keys import UPLOAD_SECRET

_BYTES = 32


class UploadSecret:
    """Reads the secret, and makes it when it is first needed."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def read(self) -> bytes:
        """Return the secret.

        Raises:
            RedisUnavailableError: Redis is down.
        """
        # Not kept: one process would go on with a secret that a new Redis does not have.
        with translated():
            secret = self._client.get(UPLOAD_SECRET)
            if secret is None:
                # Several processes may come here at once: one's is taken by all.
                self._client.set(UPLOAD_SECRET, secrets.token_hex(_BYTES), nx=True)
                secret = self._client.get(UPLOAD_SECRET)
        return bytes.fromhex(cast(str, secret))
