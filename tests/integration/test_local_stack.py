"""`up`, `status`, `down` and `worker` as a person uses them: real processes, ports and signals."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from infra.lab.stack import SUPERVISOR
from infra.local.ports import free_ports
from tests.support.local import Local
from tests.support.servers import REPOSITORY, wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="finds processes by their environment, in /proc"
)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """A stack that runs in the background; a test that stops it starts it again."""
    stack = Local(tmp_path_factory.mktemp("local") / "data folder")
    # A developer's machine: a proxy, and credentials for other storage.
    stack.environment = {
        "AWS_SESSION_TOKEN": "x",
        "RCLONE_READ_ONLY": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    done = stack.up()
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"Ready: {stack.url}" in done.stdout
    yield stack
    stack.run("down")
    assert stack.alive() == []


def test_up_reports_ready_only_when_all_is(local: Local) -> None:
    """When `up --detach` returns, the API says ready, the worker is there, and `status` agrees."""
    with urllib.request.urlopen(f"{local.url}/readyz", timeout=5) as response:
        health = json.load(response)
    assert (health["status"], health["workers"]) == ("ready", 1)
    status = local.run("status")
    assert status.returncode == 0
    assert local.url in status.stdout
    processes = local.status()["processes"]
    assert [process["name"] for process in processes] == ["redis", "s3", "api", "sinks", "worker-1"]
    for process in processes:
        assert (process["ready"], process["memory"] > 0, process["restarts"]) == (True, True, 0)


def test_an_image_is_classified(local: Local) -> None:
    """An image that goes in over HTTP comes back with a label."""
    assert local.job(local.upload())["prediction"]["label"] in {"biodegradable", "non_biodegradable"}


def test_no_secret_is_on_a_command_line_or_open_to_others(local: Local) -> None:
    """Passwords go by files and by the environment; nothing in the data folder is open to other users."""
    secrets = json.loads((local.folder.credentials).read_text()).values()
    for process in local.alive():
        line = " ".join(process.cmdline())
        assert not [secret for secret in secrets if secret in line]
    local.upload()
    modes = {
        path: stat.S_IMODE(path.lstat().st_mode)
        for path in (local.folder.path, *local.folder.path.rglob("*"))
    }
    assert len(modes) > 15
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def test_redis_and_s3_refuse_strangers(local: Local) -> None:
    """Neither answers without its password."""
    with socket.create_connection(("127.0.0.1", local.port + 1), timeout=5) as redis:
        redis.sendall(b"PING\r\n")
        assert redis.recv(100).startswith(b"-NOAUTH")
    with pytest.raises(urllib.error.HTTPError, match="HTTP Error 4"):
        urllib.request.urlopen(f"http://127.0.0.1:{local.port + 2}/wastestream", timeout=5)


def test_a_second_up_on_the_folder_is_rejected(local: Local) -> None:
    """It names the process that holds the folder, and harms nothing."""
    second = local.up("--port", str(free_ports(3)))
    assert second.returncode != 0
    assert f"process {local.pid(SUPERVISOR)}" in second.stderr + second.stdout
    assert local.status()["ready"]


def test_a_port_in_use_is_rejected(tmp_path: Path) -> None:
    """The error names port, service and remedy, and leaves nothing running."""
    other = Local(tmp_path / "data")
    with socket.create_server(("127.0.0.1", other.port + 1)):
        done = other.up()
    assert done.returncode != 0
    assert f"Port {other.port + 1} is in use, and Redis needs it" in done.stdout + done.stderr
    assert "--port N" in done.stdout + done.stderr
    assert other.alive() == []


@pytest.mark.parametrize("name", ["redis", "s3", "api", "sinks", "worker-1"])
def test_a_killed_process_is_replaced(local: Local, name: str) -> None:
    """`kill -9` of any one: it is started again, `up` says so, and the stack works as before."""
    before = local.signal(name, signal.SIGKILL)
    wait_until(lambda: local.pid(name) not in {before, None}, f"a new {name}")
    wait_until(lambda: bool(local.status()["ready"]), "the stack to be ready again")
    assert local.job(local.upload())["state"] == "classified"
    assert local.ledger()["balanced"]
    log = (local.folder.logs / "up.log").read_text()
    assert f"{name} ended by signal 9 (SIGKILL); restarting it." in log
    assert f"{name} is ready again." in log


def test_a_killed_supervisor_leaves_nothing_and_loses_nothing(local: Local) -> None:
    """`kill -9` of the supervisor takes every process down; the next `up` finds every job and image."""
    job_id = local.upload()
    with urllib.request.urlopen(f"{local.url}/v1/jobs/{job_id}/image", timeout=5) as response:
        image = response.read()
    before = {process.pid for process in local.alive()}
    local.signal(SUPERVISOR, signal.SIGKILL)
    done = local.up()  # At once: it waits for what the killed one left.
    assert before.isdisjoint({process.pid for process in local.alive()})
    assert done.returncode == 0, done.stdout + done.stderr
    assert local.job(job_id)["state"] == "classified"
    with urllib.request.urlopen(f"{local.url}/v1/jobs/{job_id}/image", timeout=5) as response:
        assert response.read() == image
    assert local.ledger()["balanced"]


def _redis_file(local: Local) -> Path:
    """Return the file that Redis appends to."""
    (file,) = (local.folder.redis / "appendonlydir").glob("*.incr.aof")
    return file


def test_everything_killed_at_once_loses_nothing(local: Local) -> None:
    """Answered jobs exist; an unfinished write is cut off, and `up` says so."""
    job_id = local.upload()
    for process in local.alive():
        process.kill()
    wait_until(lambda: local.alive() == [], "every process to end")
    with _redis_file(local).open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1")
    done = local.up()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ended with an unfinished write of 15 bytes" in done.stdout
    assert local.job(job_id)["state"] == "classified"
    assert local.ledger()["balanced"]


def test_down_stops_everything_and_up_finds_it_again(local: Local) -> None:
    """`down` returns when nothing runs any more, also if the supervisor is suspended."""
    job_id = local.upload()
    local.signal(SUPERVISOR, signal.SIGSTOP)  # as Ctrl-Z does; it could not hear that it is to end
    done = local.run("down")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Stopped.")
    assert "is suspended (Ctrl-Z or SIGSTOP)" in done.stdout
    assert local.alive() == []
    assert "No stack runs" in local.run("down").stdout
    assert local.run("status").returncode == 1
    assert local.up().returncode == 0
    assert local.job(job_id)["state"] == "classified"
    assert local.ledger()["balanced"]


def test_up_on_a_redis_that_lost_everything_is_closed(local: Local) -> None:
    """Its file is gone, the images are there: it says what was lost, until a person begins anew."""
    local.upload()
    local.run("down")
    for file in (local.folder.redis).iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    lost = "Redis has lost its data"
    local.environment["WASTESTREAM_API_PROCESSES"] = "3"
    done = local.up()
    del local.environment["WASTESTREAM_API_PROCESSES"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"CLOSED: {local.url}  {lost}" in done.stdout
    assert "Ready" not in done.stdout
    with pytest.raises(urllib.error.HTTPError) as rejected:
        local.upload()
    assert (rejected.value.code, lost in json.load(rejected.value)["detail"]) == (503, True)
    status = local.run("status")
    assert (status.returncode, f"installation: {lost}" in status.stdout) == (1, True)
    assert local.run("installation", "renew").returncode == 0
    wait_until(lambda: bool(local.status()["ready"]), "the API to open", 10)
    wait_until(lambda: _is_classified(local), "an image to be classified", 10)
    assert local.ledger()["balanced"]


def _is_classified(local: Local) -> bool:
    """Whether an image is accepted and classified; an API process may stay closed for a second longer."""
    try:
        local.upload()
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            return False
        raise
    return True


@pytest.fixture
def foreground(tmp_path: Path) -> Iterator[Callable[[list[str], Local], subprocess.Popen[str]]]:
    """A function that runs a command in the foreground until it prints that it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start(command: list[str], local: Local) -> subprocess.Popen[str]:
        output = tmp_path / f"output-{len(started)}"
        with output.open("w") as file:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=local.command_environment, stdout=file, stderr=file, text=True
            )
        started.append(process)
        wait_until(lambda: "Ready: " in output.read_text(), f"ready; {output.read_text()}", 60)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_in_the_foreground_ctrl_c_stops_everything(
    tmp_path: Path, foreground: Callable[..., subprocess.Popen[str]]
) -> None:
    """Ctrl-C ends with exit code 0 and no process left. SIGTERM, which `down` sends, does the same."""
    other = Local(tmp_path / "data")
    process = foreground(other.command("up", "--port", str(other.port), "--workers", "1"), other)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert other.alive() == []
    assert (tmp_path / "output-0").read_text().endswith("Stopped.\n")
    api_log = (other.folder.logs / "api.log").read_text()
    assert "Traceback" not in api_log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_starting_in_the_background_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The terminal's signal reaches the foreground process, which tells the other and waits for its end."""
    other = Local(tmp_path / "data")
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            other.command("up", "--port", str(other.port), "--workers", "1", "--detach"),
            cwd=REPOSITORY,
            env=other.command_environment,
            stdout=file,
            stderr=file,
        )
    wait_until(lambda: "Starting Redis" in output.read_text(), "the start")
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    assert "Ready:" not in output.read_text()
    assert other.alive() == []
    assert other.up().returncode == 0  # The folder is free again.
    other.run("down")


def test_a_frozen_worker_is_replaced(local: Local) -> None:
    """A worker that runs but reports nothing is started again; Redis that is away is no reason to."""
    worker, redis = local.pid("worker-1"), local.signal("redis", signal.SIGKILL)
    wait_until(lambda: local.pid("redis") not in {redis, None} and local.status()["ready"], "a new Redis")
    assert local.pid("worker-1") == worker
    local.signal("worker-1", signal.SIGSTOP)
    wait_until(lambda: local.pid("worker-1") not in {worker, None}, "a new worker", 90)
    wait_until(lambda: bool(local.status()["ready"]), "the stack to be ready again")
    assert local.job(local.upload())["state"] == "classified"
    assert "worker-1 runs, but has sent no heartbeat" in (local.folder.logs / "up.log").read_text()


def test_workers_of_another_machine_join(
    local: Local, tmp_path: Path, foreground: Callable[..., subprocess.Popen[str]]
) -> None:
    """With the env file alone a worker joins and leaves; while it is there the API counts it."""
    joined = Local(tmp_path / "joined")
    arguments = ["--env-file", str(local.folder.worker_env), "--processes", "1"]
    process = foreground(joined.command("worker", *arguments), joined)
    assert local.status()["health"]["workers"] == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert joined.alive() == []
    assert local.status()["health"]["workers"] == 1


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    """A process that ends at its start is named with its last words; the exit code is not 0."""
    other = Local(tmp_path / "data")
    (other.folder.redis / "appendonlydir").mkdir(parents=True)
    (other.folder.redis / "appendonlydir" / "appendonly.aof.manifest").write_text("not what Redis wrote\n")
    done = other.up()
    assert done.returncode != 0
    assert "redis ended with exit code 1" in done.stdout + done.stderr
    assert "Invalid AOF manifest file format" in done.stdout + done.stderr
    assert other.alive() == []


def test_damaged_files_of_redis_are_repaired_on_request(local: Local) -> None:
    """If answered jobs would be lost, `up` starts nothing, reports the loss, and asks for `--repair`."""
    job_id = local.upload()
    local.run("down")
    file = _redis_file(local)
    whole = file.read_bytes()
    place = whole.rindex(job_id.encode())  # in an answered write, which others follow
    file.write_bytes(whole[:place] + bytes(200) + whole[place + 200 :])
    rejected = local.up()
    assert rejected.returncode == 1
    assert f"{file} is damaged at byte" in rejected.stderr + rejected.stdout
    assert "Nothing has been changed" in rejected.stderr + rejected.stdout
    assert local.alive() == []
    done = local.up("--repair")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "was cut off and is kept in" in done.stdout
    assert "all writes after" in done.stdout
    local.upload()
