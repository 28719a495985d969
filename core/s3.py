"""Access to the S3 server: its address and credentials, the same for obstore, boto3 and presigned URLs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from obstore.store import S3Store

from core.settings import Settings

if TYPE_CHECKING:
    from obstore.store import S3Credential  # types only

_CONNECT_TIMEOUT: Final = 2  # seconds
REQUEST_TIMEOUT: Final = 10
"""Timeout of a request, or of a part of its response, seconds."""

_TTL: Final = timedelta(minutes=5)
"""Time for which obstore keeps credentials. botocore replaces them ten minutes before they expire."""

MISSING: Final = "no credentials found"
"""Words of the error when the chain finds none."""


class Credentials(NamedTuple):
    """Credentials of one moment; `token` belongs to temporary ones."""

    access_key: str
    secret_key: str
    token: str | None


def credentials_of(settings: Settings) -> Callable[[], Credentials]:
    """Return the source of credentials, which gives valid ones each time it is called.

    They are the settings' keys or, with `WASTESTREAM_S3_CREDENTIALS=aws`, those of botocore's chain: the
    environment, a web identity, a profile, a container's or a machine's role. The chain raises botocore's
    errors, and `LookupError` if it finds none.
    """
    if settings.s3_credentials == "aws":
        return _chain()
    keys = Credentials(
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
        settings.s3_session_token.get_secret_value() or None,
    )
    return lambda: keys


def _obstore_credentials(settings: Settings) -> Callable[[], S3Credential]:
    """Return the source of credentials as obstore asks for it."""
    source = credentials_of(settings)
    # The settings' own never change: it asks once.
    temporary = settings.s3_credentials == "aws"

    def provide() -> S3Credential:
        access_key, secret_key, token = source()
        return {
            "access_key_id": access_key,
            "secret_access_key": secret_key,
            "token": token,
            "expires_at": datetime.now(UTC) + _TTL if temporary else None,
        }

    return provide


def make_store(settings: Settings, seconds: int, retry_seconds: int) -> S3Store:
    """Return a client whose requests take `seconds` at most and are repeated for `retry_seconds`."""
    ca = settings.s3_ca_file
    virtual = settings.s3_addressing == "virtual"
    endpoint = settings.s3_endpoint.rstrip("/")
    return S3Store(
        settings.s3_bucket,
        prefix=settings.s3_prefix or None,
        # obstore wants the bucket's name in the host that it is given.
        endpoint=bucket_url(settings, endpoint) if virtual else endpoint,
        region=settings.s3_region,
        # AWS_SESSION_TOKEN would join keys given one by one.
        credential_provider=_obstore_credentials(settings),
        virtual_hosted_style_request=virtual,
        unsigned_payload=True,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT),
            "timeout": timedelta(seconds=seconds),
            "read_timeout": timedelta(seconds=REQUEST_TIMEOUT),
            **({"root_certificate": ca.read_bytes()} if ca else {}),
        },
        retry_config={
            "max_retries": 4,
            "retry_timeout": timedelta(seconds=retry_seconds),
            "backoff": {
                "init_backoff": timedelta(milliseconds=50),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
    )


def folder_of(settings: Settings) -> str:
    """Return the folder of the bucket that is this installation's, with a slash at its end; empty for all."""
    return f"{settings.s3_prefix}/" if settings.s3_prefix else ""


def bucket_url(settings: Settings, endpoint: str) -> str:
    """Return the bucket's URL at an endpoint, without a slash at its end."""
    scheme, host, *_ = urlsplit(endpoint)
    if settings.s3_addressing == "virtual":
        return f"{scheme}://{settings.s3_bucket}.{host}"
    return f"{scheme}://{host}/{settings.s3_bucket}"


@cache
def _chain() -> Callable[[], Credentials]:
    """Return the source of credentials that botocore's chain finds, one for the whole process."""
    from botocore.session import Session  # noqa: PLC0415 - 0.1 s and 10 MB, which only this setting pays

    lock = threading.Lock()
    found: Any = None

    def provide() -> Credentials:
        nonlocal found
        with lock:  # Else every thread would ask the machine's metadata at the start.
            # Looked for until there are some: a role may be given to a machine after its start.
            found = found or Session().get_credentials()
        if found is None:
            raise LookupError(f"{MISSING}: no variables, web identity, profile, or role of this machine")
        frozen = found.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    return provide
