"""core.redis_url: valid URLs; others are rejected by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.redis_url import RedisAddress, check_master_url, check_redis_url, read_sentinels


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://redis",
        "rediss://user:p%2Fw%23@my-redis.example.com:6380/3",
        "redis://:p@ss:word!$&'()*+,;=@host",
        "redis://user@[::1]:6379/",
        "unix:///run/redis.sock",
        "unix://user:p%2Fw@/run/redis/redis.sock?db=3",
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
        ("redis+socket:///run/redis.sock", "for a socket file, write unix:///PATH"),
        ("unix://run/redis.sock", "write redis://"),
        ("unix:///run/redis.sock?ssl_cert_reqs=none", "only ?db=NUMBER may follow, not 'ssl_cert_reqs'"),
        ("unix:///run/redis.sock?db=zero", "only ?db=NUMBER may follow"),
        ("sentinel://a:26379;sentinel://b:26379", "the Sentinels in WASTESTREAM_REDIS_SENTINELS"),
        ("redis+sentinel://a:26379/main", "the Sentinels in WASTESTREAM_REDIS_SENTINELS"),
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
    with pytest.raises(ValueError, match=re.escape(words)):
        check_redis_url(url)


def test_an_option_may_name_a_file(tmp_path: Path) -> None:
    """Such as the authority's certificate."""
    file = tmp_path / "ca.pem"
    file.touch()
    check_redis_url(f"rediss://host/0?ssl_ca_certs={file}")


def test_sentinels_are_hosts_and_ports() -> None:
    """Names, addresses of both kinds, and Sentinel's own port where none is named."""
    assert read_sentinels("a.example:26380, 10.0.0.7 ,[fd00::1]:5,") == (
        ("a.example", 26380),
        ("10.0.0.7", 26379),
        ("fd00::1", 5),
    )
    assert read_sentinels("") == ()
    for wrong in ("redis://a:1", "a:0", "a:70000", "a b"):
        with pytest.raises(ValueError, match="write HOST:PORT,HOST:PORT"):
            read_sentinels(wrong)


@pytest.mark.parametrize("url", ["redis://belts:6379/0", "unix:///run/redis.sock"])
def test_a_master_has_no_port(url: str) -> None:
    """The Sentinels say where it is."""
    check_master_url("rediss://user:pass@belts/0")
    with pytest.raises(ValueError, match="MASTER is the name that the Sentinels know, and has no port"):
        check_master_url(url)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (RedisAddress("redis://user:hunter2@host:1/0"), "host:1"),
        (RedisAddress("unix://:hunter2@/run/redis.sock"), "/run/redis.sock"),
        (
            RedisAddress("redis://:hunter2@belts/0", (("a", 1), ("b", 2)), "hunter2"),
            "the master belts of the Sentinels a:1, b:2",
        ),
    ],
)
def test_people_see_no_password(address: RedisAddress, shown: str) -> None:
    """Nor does Celery's remote control."""
    assert address.shown == address.__json__() == shown
    assert "hunter2" not in repr(address)
