"""The bucket: `python -m core.bucket` makes it and exits. boto3 does this, once, as obstore cannot."""

from __future__ import annotations

import math
import ssl
import sys
from contextlib import suppress
from typing import Any, Final

from core.errors import StorageUnavailableError, WastestreamError
from core.settings import Settings, load_settings
from core.shards import IMAGES
from core.storage import cause

_LIFECYCLE_ID: Final = "wastestream-images"


def ensure_bucket(settings: Settings) -> None:
    """Make the bucket if the server does not have it, and let it forget old images if it can.

    Raises:
        StorageUnavailableError: the server cannot be reached or denies access.
    """
    import boto3  # noqa: PLC0415 - takes 0.4 s and 30 MB, which only this one-shot pays
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        client = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key.get_secret_value(),
            aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
            aws_session_token=settings.s3_session_token.get_secret_value() or None,
            # Else the system's authorities, as obstore; boto3's own are a copy of Mozilla's.
            verify=str(settings.s3_ca_file or ssl.get_default_verify_paths().cafile or "") or True,
            config=Config(
                signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 5}
            ),
        )
        if settings.s3_bucket not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=settings.s3_bucket)
        with suppress(ClientError):  # Servers without lifecycles have errors of their own.
            _set_lifecycle(client, settings)
    except (BotoCoreError, ClientError) as error:
        raise StorageUnavailableError(
            f"The bucket {settings.s3_bucket} at {settings.s3_endpoint} cannot be made. "
            f"{cause(str(error))} ({error})."
        ) from error


def _set_lifecycle(client: Any, settings: Settings) -> None:
    """Have images removed a day after workers would, should none run; keep the rules of others."""
    rule = {
        "ID": _LIFECYCLE_ID,
        "Status": "Enabled",
        "Filter": {"Prefix": f"{IMAGES}/"},
        "Expiration": {"Days": math.ceil(settings.image_retention_hours / 24) + 1},
    }
    rules = _lifecycle_rules(client, settings.s3_bucket)
    if rule not in rules:
        others = [other for other in rules if other.get("ID") != _LIFECYCLE_ID]
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
