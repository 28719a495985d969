"""core.redis_url: valid URLs; others are rejected by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.redis_url import check_redis_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://redis",
        "rediss://user:p%2Fw%23@my-redis.example.com:6380/3",
        "redis://:p@ss:word!$&'()*+,;=@host",
        "redis://user@[::1]:6379/",
        "rediss://h/0?ssl_cert_reqs=none&ssl_check_hostname=False&ssl_ca_path=/etc/ssl/certs",
    ],
)
def test_an_address_of_one_server_passes(url: str) -> None:
    """With and without TLS, user, password, port and database."""
    check_redis_url(url)


@pytest.mark.parametrize("character", list("/?#[] %\t"))
def test_a_character_that_must_be_encoded_is_rejected(character: str) -> None:
    """Anywhere in a password; libraries would take the rest for another part."""
    for password in (f"hunter2{character}", f"{character}hunter2", f"hun{character}zzter2"):
        with pytest.raises(ValueError, match="percent-encode") as caught:
            check_redis_url(f"redis://:{password}@host:6379/0")
        assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("unix:///run/redis.sock", "socket files are not supported"),
        ("redis+socket:///run/redis.sock", "socket files are not supported"),
        ("sentinel://a:26379;sentinel://b:26379", "Sentinel is not supported"),
        ("redis+sentinel://a:26379/main", "Sentinel is not supported"),
        ("redis+cluster://a:6379", "Cluster is not supported"),
        ("redis://a:1,b:2/0", "write redis://"),
        ("http://a:6379", "write redis://"),
        ("redis://", "write redis://"),
        ("redis://:@", "write redis://"),
        ("redis://host:0/0", "write redis://"),
        ("redis://host:70000/0", "write redis://"),
        ("redis://host/zero", "write redis://"),
        ("redis://host/0\n", "write redis://"),
        ("hunter2", "write redis://"),
        ("redis://host/0?ssl_cert_reqs=none", "must begin with rediss://"),
        ("rediss://host/0?socket_timeout=1", "'socket_timeout' is not supported"),
        ("rediss://host/0?ssl_cert_reqs=maybe", "ssl_cert_reqs must be one of: required, optional, none"),
        ("rediss://host/0?ssl_ca_certs=/nowhere.pem", "ssl_ca_certs names no file: /nowhere.pem"),
    ],
)
def test_what_no_program_can_use_is_rejected_by_name(url: str, words: str) -> None:
    """The sentence says what to write instead."""
    with pytest.raises(ValueError, match=words.replace("+", r"\+")):
        check_redis_url(url)


def test_an_option_may_name_a_file(tmp_path: Path) -> None:
    """Such as the authority's certificate."""
    file = tmp_path / "ca.pem"
    file.touch()
    check_redis_url(f"rediss://host/0?ssl_ca_certs={file}")
