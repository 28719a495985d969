"""Settings of every program, from `WASTESTREAM_*` environment variables."""

from __future__ import annotations

import ipaddress
import ssl
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import SettingsError
from core.redis.url import check_redis_url

PREFIX: Final = "WASTESTREAM_"

SHIPPED_MODEL: Final = Path(__file__).resolve().parent.parent / "worker" / "model"

_SLOWEST: Final = 1e-3
_FASTEST: Final = 1e6

RATE_RULE: Final = "use 0 for no limit, or from 0.001 to 1,000,000 images a second"
"""Valid rates of a limit, for messages."""


def is_rate(value: float) -> bool:
    """Return whether `value` can be the rate of a limit: far from what Redis' numbers cannot hold."""
    return value == 0 or _SLOWEST <= value <= _FASTEST


class Settings(BaseSettings):
    """One value per variable: the field `redis_url` is `WASTESTREAM_REDIS_URL`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, protected_namespaces=(), hide_input_in_errors=True
    )

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis: broker, job records, ledger. `redis://:PASSWORD@HOST:PORT/DB`; TLS: `rediss://`.",
    )
    s3_endpoint: str = Field(
        "http://127.0.0.1:8333", pattern=r"^https?://[^/]+/?$", description="Address of the S3 server."
    )
    s3_access_key: SecretStr = Field(SecretStr(""), description="Access key of the S3 server.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the S3 server.")
    s3_session_token: SecretStr = Field(
        SecretStr(""), description="Session token of temporary keys of the S3 server."
    )
    s3_ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the S3 server's certificate."
    )
    s3_bucket: str = Field(
        "wastestream", pattern=r"^[a-z0-9][a-z0-9.\-]{2,62}$", description="Bucket that holds the images."
    )
    s3_region: str = Field("us-east-1", description="Region that requests are signed for.")

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port that the API listens on.")
    api_processes: int = Field(1, ge=1, le=64, description="API processes; one takes about 800 uploads/s.")
    api_threads: int = Field(64, ge=4, le=1024, description="Threads of one API process.")
    api_waiting: int = Field(
        256, ge=1, le=1024, description="Requests besides that wait for their jobs, in one API process."
    )

    trusted_proxies: int = Field(
        0,
        ge=0,
        le=16,
        description="Reverse proxies in front of the API whose X-Forwarded headers are believed.",
    )

    auth: Literal["auto", "required", "off"] = Field(
        "auto",
        description="Whether callers need an API key: `auto`, `required`, or `off`.",
    )
    admin_key_sha256: str = Field(
        "",
        pattern=r"^([0-9a-fA-F]{64})?$",
        description="SHA-256, in hexadecimal, of an API key that may do everything.",
    )
    key_rate: float = Field(0.0, description="Images a second that each API key may send; 0 is no limit.")
    key_burst: int = Field(
        256, ge=1, le=1_000_000, description="Images that an API key may send at once beyond its rate."
    )
    access_log: bool = Field(False, description="Whether the API prints a line for each request.")

    max_batch: int = Field(32, ge=2, le=256, description="Most images that a worker classifies at a time.")
    batch_timeout: float = Field(
        60.0, gt=0, le=600, description="Seconds after which a hung batch is ended and its worker replaced."
    )
    child_memory: int = Field(
        2048,
        ge=512,
        le=1_048_576,
        description="MiB that a worker's child may allocate; an image that needs more fails.",
    )
    engine: Literal["auto", "float", "int8", "tensorflow"] = Field(
        "auto",
        description="What runs the model: the CPU with `float` or `int8` weights, `auto` the faster of both, "
        "or `tensorflow`, for workers with a GPU.",
    )
    model_dir: Path = Field(SHIPPED_MODEL, description="Folder of the model that the workers load.")

    disk: Path | None = Field(
        None,
        description="Folder whose disk Redis and storage fill; uploads are answered 503 while it is full.",
    )
    max_queued: int = Field(
        200_000,
        ge=100,
        description="Most images that may wait at a time; beyond it uploads are answered 429.",
    )
    max_cameras: int = Field(
        1_000,
        ge=1,
        description="Most cameras in the ledger; an upload that names a new one is answered 422.",
    )
    key_cameras: int = Field(
        100, ge=1, description="Most of those cameras that one API key may bring; beyond it the same."
    )

    retention_hours: float = Field(
        168.0, ge=0.01, description="Hours that a settled job's record and an idempotency key are kept."
    )
    image_retention_hours: float = Field(
        168.0, ge=1, description="Hours that an image is kept in storage after it was accepted."
    )
    ledger_retention_days: float = Field(92.0, ge=1, description="Days that the ledger's rows are kept.")
    archive: Literal["on", "off"] = Field(
        "on", description="Whether each hour of results is written to the bucket, below `results/`."
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$", description="Least severe log line printed."
    )

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: SecretStr) -> SecretStr:
        check_redis_url(value.get_secret_value())
        return value

    @field_validator("s3_ca_file", mode="before")
    @classmethod
    def _holds_certificates(cls, value: object) -> object:
        if not value:  # as an empty variable in containers
            return None
        try:
            ssl.create_default_context(cafile=str(value))
        except OSError as error:
            raise ValueError(f"{value} holds no certificate in PEM that can be read ({error})") from None
        return value

    @field_validator("key_rate")
    @classmethod
    def _is_rate(cls, value: float) -> float:
        if not is_rate(value):
            raise ValueError(RATE_RULE)
        return value

    @property
    def reachable(self) -> bool:
        """Whether the API listens where other machines can reach it."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name
            return self.host != "localhost"


@cache
def load_settings() -> Settings:
    """Read the environment once.

    Raises:
        SettingsError: a variable has a value that cannot work; the message names each.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"{PREFIX}{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors(include_input=False)  # a wrong value may hold a secret
        )
        raise SettingsError(f"Settings that cannot work: {wrong}. docs/settings.md explains each.") from error
