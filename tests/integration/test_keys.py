"""`keys` on a real Redis, the API as a process of its own, and `classify` with keys."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.__main__ import _check_address
from api.installation import installation_of
from api.keys import keys as container_keys
from core.errors import SettingsError
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.settings import Settings, load_settings
from infra.cli.main import cli
from tests.conftest import environment_of
from tests.support.images import jpeg
from tests.support.servers import Server, free_port, run_module

Keys = Callable[..., Result]

TOKEN = re.compile(r"ws_[0-9a-f]{10}_[0-9a-f]{48}\n")


@pytest.fixture(params=["./wastestream keys", "python -m api.keys"])
def keys(settings: Settings, request: pytest.FixtureRequest) -> Keys:
    """The commands, on the real Redis, as on a machine and as in a container."""
    runner = CliRunner(env={"WASTESTREAM_REDIS_URL": settings.redis_url.get_secret_value()})
    own = request.param == "python -m api.keys"

    def call(*arguments: str) -> Result:
        load_settings.cache_clear()
        return runner.invoke(*((container_keys, arguments) if own else (cli, ["keys", *arguments])))

    return call


def test_a_key_is_shown_once_and_can_be_revoked(keys: Keys) -> None:
    """`create` prints the key alone to standard output; `list` never shows it; `revoke` ends it."""
    created = keys(
        "create", "belt-1", "--scope", "ingest", "--expires", "90d", "--rate", "20", "--burst", "100"
    )
    assert (created.exit_code, bool(TOKEN.fullmatch(created.stdout))) == (0, True), created
    assert "belt-1 (ingest; expires " in created.stderr
    _, key_id, secret = created.stdout.strip().split("_")
    listed = keys("list")
    assert re.search(
        rf"^{key_id}  belt-1  ingest  all      20/s, burst 100  \d{{4}}", listed.stdout, re.MULTILINE
    )
    shown = json.loads(keys("list", "--json").stdout)
    assert (shown["name"], shown["scopes"], shown["rate"], shown["burst"]) == ("belt-1", ["ingest"], 20, 100)
    assert shown["cameras"] is None
    assert secret not in listed.stdout + json.dumps(shown) + created.stderr

    assert keys("revoke", "belt-1").exit_code == 0
    assert "no valid keys" in keys("list").stderr
    assert "revoked" in keys("list", "--all").stdout
    assert keys("create", "belt-1", "--scope", "read").exit_code == 0  # the name is free again


def test_a_key_may_be_bound_to_cameras(keys: Keys) -> None:
    """By ids and patterns, which are shown when it is made and listed; ids in one form."""
    options = (
        "--camera",
        "belt-1",
        "--camera",
        "line2-*",
        "--camera",
        "B\u0061\u0308nd*",
        "--camera",
        "belt-1",
    )
    made = keys("create", "belt", "--scope", "ingest", *options)
    assert "Made the key belt (ingest; cameras belt-1, line2-*, B\u00e4nd*; does not expire)" in made.stderr
    assert re.search(r"  belt  ingest  belt-1, line2-\*, B\u00e4nd\*  ", keys("list").stdout)
    assert json.loads(keys("list", "--json").stdout)["cameras"] == ["belt-1", "line2-*", "B\u00e4nd*"]


def test_what_cannot_be_done_is_said(keys: Keys) -> None:
    """Exit code 1 for an unknown key or a name in use, 2 for a wrong command line."""
    assert keys("create", "belt-1", "--scope", "ingest").exit_code == 0
    for arguments, code, sentence in (
        (("create", "belt-1", "--scope", "read"), 1, "is a key called 'belt-1'"),
        (("revoke", "belt-2"), 1, "No key is called 'belt-2'"),
        (("create", "belt-2"), 2, "--scope"),
        (("create", "belt-2", "--scope", "all"), 2, "'all' is not one of"),
        (("create", "two words", "--scope", "read"), 2, "1 to 64 letters"),
        (("create", "belt-2", "--scope", "read", "--expires", "soon"), 2, "write 12h or 90d"),
        (("create", "belt-2", "--scope", "read", "--rate", "-1"), 2, "from 0.001 to 1,000,000"),
        (("create", "belt-2", "--scope", "read", "--rate", "nan"), 2, "from 0.001 to 1,000,000"),
        (("create", "belt-2", "--scope", "read", "--camera", "a/*"), 2, "it holds '/'"),
        (("create", "belt-2", "--scope", "admin", "--camera", "a"), 2, "cannot be bound to cameras"),
    ):
        done = keys(*arguments)
        assert (done.exit_code, done.stdout) == (code, ""), done
        assert sentence in done.stderr


def test_the_container_command_is_a_module(settings: Settings) -> None:
    """It runs as docs/containers.md has it, and takes Redis from the settings."""
    url = {"WASTESTREAM_REDIS_URL": settings.redis_url.get_secret_value()}
    created = run_module("api.keys", "create", "belt-1", "--scope", "ingest", environment=url)
    assert TOKEN.fullmatch(created.stdout), created


def test_a_key_that_several_share_a_name_with_is_revoked_by_id(settings: Settings) -> None:
    """Names of two commands that ran at the same time may be the same; the sentence gives the ids."""
    store = KeyStore(connect(settings.redis_url.get_secret_value()))
    first, _ = store.create("one", [Scope.READ])
    second, _ = store.create("two", [Scope.READ])
    redis = connect(settings.redis_url.get_secret_value())
    redis.hset("ws:keys", second.id, str(redis.hget("ws:keys", first.id)))
    url = {"WASTESTREAM_REDIS_URL": settings.redis_url.get_secret_value()}
    ambiguous = run_module("infra.cli", "keys", "revoke", "one", environment=url)
    assert ambiguous.returncode == 1
    assert first.id in ambiguous.stderr
    assert second.id in ambiguous.stderr
    assert run_module("infra.cli", "keys", "revoke", first.id, environment=url).returncode == 0
    assert [key.valid for key in store.all()].count(True) == 1


def test_a_redis_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Both by its address and by the folder of a stack that does not run; the password is not shown."""
    nobody = {"WASTESTREAM_REDIS_URL": f"redis://:hunter2@127.0.0.1:{free_port()}/0"}
    down = run_module("infra.cli", "keys", "list", environment=nobody)
    assert (down.returncode, "Redis does not answer" in down.stderr) == (1, True)
    assert "hunter2" not in down.stderr + down.stdout
    nothing = run_module("infra.cli", "keys", "--data-dir", tmp_path, "list", environment=nobody)
    assert (nothing.returncode, f"No stack runs on {tmp_path}" in nothing.stderr) == (1, True)


# ---- The API as a process ----------------------------------------------------------------------


def statuses(server: Server, *requests: tuple[str, str, bytes, dict[str, str]]) -> list[int]:
    """Send requests over one connection, which nobody may close between them; return their statuses."""
    received = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        for method, path, body, headers in requests:
            connection.request(method, path, body, headers)
            used = connection.sock
            response = connection.getresponse()
            response.read()
            assert connection.sock is used
            received.append(response.status)
    return received


def test_without_a_key_it_does_not_start_where_others_reach_it(settings: Settings) -> None:
    """It ends with a sentence that says what to do."""
    ended = run_module("api", environment=environment_of(settings) | {"WASTESTREAM_HOST": "192.0.2.1"})
    assert ended.returncode == 1
    assert "there is no API key" in ended.stderr
    assert "keys create" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_key_it_starts_where_redis_has_lost_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may reach it, but it is closed, and to say so it must run."""
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    reachable = settings.model_copy(update={"host": "192.0.2.1"})
    installation_of(settings).renew()
    with pytest.raises(SettingsError, match="there is no API key"):
        _check_address(reachable)
    connect(settings.redis_url.get_secret_value()).flushall()
    _check_address(reachable)


def test_the_log_names_keys_and_requests_and_holds_no_secret(
    settings: Settings, start_api: Callable[..., Server]
) -> None:
    """A line has the key's name and the request's id; an error's line the id; none has the key itself."""
    installation_of(settings).renew()  # as an earlier start has made it
    _, token = KeyStore(connect(settings.redis_url.get_secret_value())).create("belt-1", [Scope.INGEST])
    server = start_api(
        WASTESTREAM_ACCESS_LOG="true", WASTESTREAM_S3_ENDPOINT=f"http://127.0.0.1:{free_port()}"
    )
    wrong = f"ws_{'0' * 10}_{'f' * 48}"
    for key, number, status in ((token, "request-1", 503), (wrong, "request-2", 401)):
        headers = {"Content-Type": "image/jpeg", "X-Request-ID": number, "Authorization": f"Bearer {key}"}
        assert statuses(server, ("POST", "/v1/images", jpeg(), headers)) == [status]
    server.kill(signal.SIGTERM)
    log = server.log.read_text()
    records = [json.loads(line) for line in log.splitlines()]
    access = {record["request_id"]: record for record in records if record["logger"] == "api.access"}
    shown = [
        [access[f"request-{number}"][name] for name in ("address", "key", "message", "status")]
        for number in (1, 2)
    ]
    assert shown[0] == ["127.0.0.1", "belt-1", "POST /v1/images HTTP/1.1", 503]
    assert shown[1] == ["127.0.0.1", "-", "POST /v1/images HTTP/1.1", 401]
    (failure,) = [record for record in records if "Storage does not answer" in record["message"]]
    assert failure["request_id"] == "request-1"
    for secret in (token, wrong, settings.s3_secret_key.get_secret_value()):
        assert secret not in log
        assert secret.rpartition("_")[2] not in log


def test_a_client_reads_why_it_is_rejected_though_it_is_still_sending(
    settings: Settings, start_api: Callable[..., Server]
) -> None:
    """8 MB, without a key 1 MB, are read and dropped, so that the answer arrives; the connection goes on."""
    _, token = KeyStore(connect(settings.redis_url.get_secret_value())).create("k", [Scope.READ])
    server = start_api()
    keyed = {"Authorization": f"Bearer {token}"}
    requests = [("POST", "/v1/images", b"x" * size, key) for size, key in ((900_000, {}), (8_000_000, keyed))]
    assert statuses(server, *requests) == [401, 403]


def test_a_key_from_the_settings_opens_a_new_installation(
    settings: Settings, start_api: Callable[..., Server]
) -> None:
    """Its hash is enough, and further keys can be made beside it."""
    digest = hashlib.sha256(b"ws_admin_x").hexdigest()
    server = start_api(WASTESTREAM_ADMIN_KEY_SHA256=digest.upper())
    _, token = KeyStore(connect(settings.redis_url.get_secret_value())).create("k", [Scope.READ])
    keys = ("ws_admin_x", token, digest, "")
    requests = [("GET", "/v1/jobs/none", b"", {"Authorization": f"Bearer {key}"}) for key in keys]
    assert statuses(server, *requests) == [404, 404, 401, 401]
