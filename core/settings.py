"""Settings of every program, from `WASTESTREAM_*` environment variables."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.errors import SettingsError
from core.redis_url import RedisAddress, check_master_url, check_redis_url, read_sentinels
from core.webhook_target import Network

PREFIX: Final = "WASTESTREAM_"

SHIPPED_MODEL: Final = Path(__file__).resolve().parent.parent / "worker" / "model"

_SLOWEST: Final = 1e-3  # images a second; both bounds are far inside the range of Redis' numbers
_FASTEST: Final = 1e6

RATE_RULE: Final = "use 0 for no limit, or from 0.001 to 1,000,000 images a second"
"""Valid rates, for messages."""


MQTT_URL_RULE: Final = (
    "use mqtt://USER:PASSWORD@HOST:PORT or mqtts://..., with / ? # [ ] @ % in the password percent-encoded"
)
"""Valid URLs of a broker, for messages."""


def is_rate(value: float) -> bool:
    """Return whether `value` is a valid rate: 0, or one within the bounds."""
    return value == 0 or _SLOWEST <= value <= _FASTEST


class Settings(BaseSettings):
    """One value per variable: the field `redis_url` is `WASTESTREAM_REDIS_URL`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, protected_namespaces=(), hide_input_in_errors=True
    )

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="URL of Redis, which holds the queue, job records and ledger.",
    )
    redis_sentinels: str = Field(
        "", description="Sentinels that know the address of Redis, separated by commas; empty for none."
    )
    redis_sentinel_password: SecretStr = Field(SecretStr(""), description="Password of the Sentinels.")
    redis_replicas: int = Field(
        0,
        ge=0,
        le=16,
        description="Number of Redis' replicas that confirm an upload before it is accepted.",
    )
    s3_endpoint: str = Field(
        "http://127.0.0.1:8333", pattern=r"^https?://[^/]+/?$", description="URL of the S3 server."
    )
    s3_credentials: Literal["keys", "aws"] = Field(
        "keys", description="Source of the credentials for the S3 server."
    )
    s3_addressing: Literal["path", "virtual"] = Field(
        "path", description="Place of the bucket's name in URLs of the S3 server."
    )
    s3_prefix: str = Field(
        "",
        pattern=r"^([A-Za-z0-9_\-][A-Za-z0-9._\-]*(/[A-Za-z0-9_\-][A-Za-z0-9._\-]*)*)?$",
        max_length=200,
        description="Folder of the bucket for everything of this installation; empty for the whole bucket.",
    )
    s3_access_key: SecretStr = Field(SecretStr(""), description="Access key of the S3 server.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the S3 server.")
    s3_session_token: SecretStr = Field(
        SecretStr(""), description="Session token of the S3 server, for temporary keys."
    )
    s3_ca_file: Path | None = Field(
        None, description="PEM file with the certificate authority of the S3 server."
    )
    s3_bucket: str = Field(
        "wastestream", pattern=r"^[a-z0-9][a-z0-9.\-]{2,62}$", description="Bucket for the images."
    )
    s3_region: str = Field("us-east-1", description="Region in the signature of S3 requests.")
    s3_public_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^/]+/?)?$",
        description="URL at which clients reach the S3 server; it turns direct uploads on.",
    )

    host: str = Field("127.0.0.1", description="Listening address of the API.")
    port: int = Field(8000, ge=1, le=65535, description="Listening port of the API.")
    api_processes: int = Field(1, ge=1, le=64, description="Number of API processes.")
    api_threads: int = Field(
        64, ge=4, le=1024, description="Threads of each API process for requests with a valid key."
    )
    api_waiting: int = Field(
        256, ge=1, le=1024, description="Maximum number of requests that wait for jobs in each API process."
    )
    api_streams: int = Field(
        256, ge=1, le=1024, description="Maximum number of event streams of each API process."
    )

    trusted_proxies: int = Field(
        0,
        ge=0,
        le=16,
        description="Number of reverse proxies whose `X-Forwarded-*` headers are trusted.",
    )

    auth: Literal["auto", "required", "off"] = Field(
        "auto",
        description="Authentication of callers by API key.",
    )
    admin_key_sha256: str = Field(
        "",
        pattern=r"^([0-9a-fA-F]{64})?$",
        description="SHA-256, in hexadecimal, of an API key with the scope `admin`.",
    )
    key_rate: float = Field(0.0, description="Default rate limit of an API key in images a second.")
    key_burst: int = Field(256, ge=1, le=1_000_000, description="Default burst of an API key in images.")
    access_log: bool = Field(False, description="Access log of the API on standard output.")

    max_batch: int = Field(32, ge=2, le=256, description="Maximum number of images in a batch.")
    batch_timeout: float = Field(60.0, gt=0, le=600, description="Time limit of a batch in seconds.")
    child_memory: int = Field(
        2048,
        ge=512,
        le=1_048_576,
        description="Memory limit of a worker's child in MiB.",
    )
    engine: Literal["auto", "float", "int8", "tensorflow"] = Field(
        "auto",
        description="Engine that runs the model.",
    )
    model_dir: Path = Field(SHIPPED_MODEL, description="Model folder of the workers.")

    disk: Path | None = Field(
        None,
        description="Folder on the disk of Redis and storage, if it is on the API's machine.",
    )
    max_queued: int = Field(
        200_000,
        ge=100,
        description="Maximum number of pending images.",
    )
    max_cameras: int = Field(
        1_000,
        ge=1,
        description="Maximum number of cameras in the ledger.",
    )
    key_cameras: int = Field(
        100, ge=1, description="Maximum number of cameras that an API key may add to the ledger."
    )

    webhook_networks: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks, separated by commas, that webhooks may be sent to besides public addresses.",
    )

    retention_hours: float = Field(
        168.0, ge=0.01, description="Retention of settled jobs' records and of idempotency keys in hours."
    )
    image_retention_hours: float = Field(
        168.0, ge=1, description="Retention of images in hours, from acceptance."
    )
    ledger_retention_days: float = Field(92.0, ge=1, description="Retention of the ledger's rows in days.")
    mqtt_url: SecretStr = Field(
        SecretStr(""), description="URL of the MQTT broker that results are published to; empty for none."
    )
    site: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of this installation in MQTT topics.",
    )
    archive: Literal["on", "off"] = Field(
        "on", description="Archive of results: an object in the bucket for each hour, below `results/`."
    )
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="URL of an OpenTelemetry collector that gets traces (OTLP over HTTP); empty for none.",
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$", description="Minimum severity of log lines."
    )

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: SecretStr) -> SecretStr:
        check_redis_url(value.get_secret_value())
        return value

    @field_validator("redis_sentinels")
    @classmethod
    def _are_sentinels(cls, value: str) -> str:
        read_sentinels(value)
        return value

    @model_validator(mode="after")
    def _name_a_master(self) -> Settings:
        if self.redis_sentinels:
            check_master_url(self.redis_url.get_secret_value())
        elif self.redis_sentinel_password.get_secret_value():
            raise ValueError(f"{PREFIX}REDIS_SENTINEL_PASSWORD needs {PREFIX}REDIS_SENTINELS, which is empty")
        return self

    @field_validator("mqtt_url")
    @classmethod
    def _is_mqtt_url(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        try:
            parts = urlsplit(url)
            valid = parts.scheme in {"mqtt", "mqtts"} and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if url and not (valid and parts.path in {"", "/"} and not parts.query):
            raise ValueError(MQTT_URL_RULE)
        return value

    @field_validator("s3_ca_file", mode="before")
    @classmethod
    def _holds_certificates(cls, value: object) -> object:
        if not value:  # as an empty variable in containers
            return None
        try:
            ssl.create_default_context(cafile=str(value))
        except OSError as error:
            raise ValueError(f"{value} holds no certificate in PEM format ({error})") from None
        return value

    @field_validator("webhook_networks", mode="before")
    @classmethod
    def _are_networks(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("key_rate")
    @classmethod
    def _is_rate(cls, value: float) -> float:
        if not is_rate(value):
            raise ValueError(RATE_RULE)
        return value

    @property
    def redis(self) -> RedisAddress:
        """Address of Redis, of all settings that belong to it."""
        return RedisAddress(
            self.redis_url.get_secret_value(),
            read_sentinels(self.redis_sentinels),
            self.redis_sentinel_password.get_secret_value(),
        )

    @cached_property
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
        SettingsError: a variable has an invalid value; the message names each.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            ": ".join(filter(None, (_variable(item["loc"]), item["msg"])))
            for item in error.errors(include_input=False)  # a wrong value may hold a secret
        )
        raise SettingsError(f"Invalid settings: {wrong}. docs/settings.md explains each.") from error


def _variable(location: Sequence[int | str]) -> str:
    """Return the variable of a setting; empty for an error about several, which names them itself."""
    return f"{PREFIX}{'_'.join(map(str, location)).upper()}" if location else ""
