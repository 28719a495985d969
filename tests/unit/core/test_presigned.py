"""core.presigned: URLs as boto3 makes them, for the address that clients know."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config
from pydantic import SecretStr

from core.presigned import PutUrls
from core.settings import Settings
from tests.support.servers import wait_until

SETTINGS = Settings(
    s3_endpoint="http://s3:8333",
    s3_public_endpoint="https://s3.example.com/",
    s3_access_key=SecretStr("access"),
    s3_secret_key=SecretStr("secret"),
    s3_session_token=SecretStr("a/token+of=them"),
    s3_region="eu-west-1",
)


def test_urls_are_those_of_boto3() -> None:
    """Size and type are signed, and the token of temporary keys goes with them."""
    client = boto3.client(
        "s3",
        endpoint_url=SETTINGS.s3_public_endpoint,
        region_name=SETTINGS.s3_region,
        aws_access_key_id="access",
        aws_secret_access_key="secret",  # noqa: S106
        aws_session_token="a/token+of=them",  # noqa: S106
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
        ),
    )
    parameters = {"Bucket": "wastestream", "Key": "a/b.png", "ContentType": "image/png", "ContentLength": 5}

    def agree() -> bool:
        ours, theirs = (
            urlsplit(url)
            for url in (
                PutUrls(SETTINGS).sign("a/b.png", "image/png", 5, 60),
                client.generate_presigned_url("put_object", Params=parameters, ExpiresIn=60),
            )
        )
        assert ours[:3] == theirs[:3] == ("https", "s3.example.com", "/wastestream/a/b.png")
        return parse_qs(ours.query) == parse_qs(theirs.query)

    wait_until(agree, "both to sign within the same second")
