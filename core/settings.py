"""Settings of every program, from `WASTESTREAM_*` environment variables."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import SettingsError

PREFIX: Final = "WASTESTREAM_"

SHIPPED_MODEL: Final = Path(__file__).resolve().parent.parent / "worker" / "model"


class Settings(BaseSettings):
    """One value per variable: the field `redis_url` is `WASTESTREAM_REDIS_URL`, and so on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, protected_namespaces=())

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis: broker, job records, ledger. `redis://:PASSWORD@HOST:PORT/DB`.",
    )
    s3_endpoint: str = Field(
        "http://127.0.0.1:8333", pattern=r"^https?://[^/]+/?$", description="Address of the S3 server."
    )
    s3_access_key: SecretStr = Field(SecretStr(""), description="Access key of the S3 server.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the S3 server.")
    s3_bucket: str = Field(
        "wastestream", pattern=r"^[a-z0-9][a-z0-9.\-]{2,62}$", description="Bucket that holds the images."
    )
    s3_region: str = Field("us-east-1", description="Region that requests are signed for.")

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port that the API listens on.")
    api_processes: int = Field(1, ge=1, le=64, description="API processes; one takes about 800 uploads/s.")
    api_threads: int = Field(64, ge=4, le=1024, description="Requests that one API process serves at a time.")

    max_batch: int = Field(32, ge=2, le=256, description="Most images that a worker classifies at a time.")
    batch_timeout: float = Field(
        60.0, gt=0, le=600, description="Seconds after which a hung batch is ended and its worker replaced."
    )
    model_dir: Path = Field(SHIPPED_MODEL, description="Folder of the model that the workers load.")

    retention_hours: float = Field(
        168.0, gt=0, description="Hours that a settled job's record and an idempotency key are kept."
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$", description="Least severe log line printed."
    )


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
