"""The bucket: `python -m core.bucket` makes it and exits. boto3 does this, once, as obstore cannot."""

from __future__ import annotations

import math
import ssl
import sys
from contextlib import suppress
from typing import Any, Final

from core.errors import StorageUnavailableError, WastestreamError
from core.s3 import credentials_of, folder_of
from core.settings import Settings, load_settings
from core.shards import IMAGES
from core.storage import cause

_LIFECYCLE_ID: Final = "wastestream-images"


def ensure_bucket(settings: Settings) -> None:
    """Make the bucket if the server does not have it, and let it forget old images if it can.

    Raises:
        StorageUnavailableError: the server cannot be reached or denies access.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as in _client

    try:
        client = _client(settings)
        if not _exists(client, settings):
            client.create_bucket(Bucket=settings.s3_bucket)
        with suppress(ClientError):  # Servers without lifecycles have errors of their own.
            _set_lifecycle(client, settings)
    except (BotoCoreError, ClientError, LookupError) as error:
        raise StorageUnavailableError(
            f"The bucket {settings.s3_bucket} at {settings.s3_endpoint} cannot be made. "
            f"{cause(str(error))} ({error})."
        ) from error


def _client(settings: Settings) -> Any:
    import boto3  # noqa: PLC0415 - takes 0.4 s and 30 MB, which only this one-shot pays
    from botocore.config import Config  # noqa: PLC0415

    keys = credentials_of(settings)()
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.token,
        # Else the system's authorities, as obstore; boto3's own are a copy of Mozilla's.
        verify=str(settings.s3_ca_file or ssl.get_default_verify_paths().cafile or "") or True,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": settings.s3_addressing},
            retries={"total_max_attempts": 5},
        ),
    )


def _exists(client: Any, settings: Settings) -> bool:
    """Return whether there is the bucket: by a listing, which the programs need the right to anyway."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - as in _client

    try:
        client.list_objects_v2(Bucket=settings.s3_bucket, Prefix=folder_of(settings), MaxKeys=1)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"NoSuchBucket", "404"}:
            raise
        return False
    return True


def _set_lifecycle(client: Any, settings: Settings) -> None:
    """Have images removed a day after workers would, should none run; keep the rules of others."""
    # A rule for each folder: installations may share a bucket.
    name = "-".join(filter(None, (_LIFECYCLE_ID, settings.s3_prefix)))
    rule = {
        "ID": name,
        "Status": "Enabled",
        "Filter": {"Prefix": f"{folder_of(settings)}{IMAGES}/"},
        "Expiration": {"Days": math.ceil(settings.image_retention_hours / 24) + 1},
    }
    rules = _lifecycle_rules(client, settings.s3_bucket)
    if rule not in rules:
        others = [other for other in rules if other.get("ID") != name]
        client.put_bucket_lifecycle_configuration(
            Bucket=settings.s3_bucket, LifecycleConfiguration={"Rules": [*others, rule]}
        )


def _lifecycle_rules(client: Any, bucket: str) -> list[dict[str, Any]]:
    from botocore.exceptions import ClientError  # noqa: PLC0415 - as in ensure_bucket

    try:
        return list(client.get_bucket_lifecycle_configuration(Bucket=bucket).get("Rules", []))
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise
        return []


def main() -> int:
    """Make the bucket; return the exit code."""
    try:
        ensure_bucket(load_settings())
    except WastestreamError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
