"""The command line as a whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.cli.main import COMMANDS, cli
from infra.local.folder import DataFolder
from tests.support.servers import REPOSITORY, run_module


def test_help_imports_no_command() -> None:
    """`--help` works in every environment, without a command's packages."""
    script = "import sys; from infra.cli.main import cli; cli(['--help'], standalone_mode=False)"
    script += "; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in COMMANDS:
        assert f"infra.cli.{name}" not in done.stdout.split()
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """Each listed command exists and has help."""
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert name in result.output


def test_an_unknown_command_is_rejected() -> None:
    """A slip of the finger ends with click's sentence and code."""
    result = CliRunner().invoke(cli, ["upp"])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_status_and_down_where_nothing_runs(tmp_path: Path) -> None:
    """Both say so; only `status` asks for something that is not there."""
    options = ["--data-dir", str(tmp_path / "none")]
    status = CliRunner().invoke(cli, ["status", *options])
    assert (status.exit_code, "No stack runs" in status.output) == (1, True)
    down = CliRunner().invoke(cli, ["down", *options])
    assert (down.exit_code, "No stack runs" in down.output) == (0, True)


_AS_NOBODY = """
import os, sys
import infra.cli.down, infra.cli.keys, infra.cli.status  # Python itself may lie where only root can read.
from tests.support.servers import run_module
from infra.cli.main import cli
os.setgroups([]), os.setgid(65534), os.setuid(65534)
cli(sys.argv[1:])
"""


@pytest.fixture
def running() -> Iterator[DataFolder]:
    """A folder that root's process holds, in one that other users can reach; pytest's own is private."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a program as another user")
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o755)
    folder = DataFolder(parent / "data")
    folder.make()
    with folder.lock():
        yield folder
    shutil.rmtree(parent)


@pytest.mark.parametrize("mode", [0o700, 0o755])
@pytest.mark.parametrize("command", [["down"], ["status"], ["status", "--json"], ["keys", "list"]])
def test_the_stack_of_another_user_is_said_to_be_theirs(
    running: DataFolder, command: list[str], mode: int
) -> None:
    """A user without the right to open the folder or its lock gets one line."""
    running.path.chmod(mode)
    assert _run_as_nobody(running, *command) == (
        1,
        f"Error: {running.path} belongs to another user; run this command as that user.\n",
    )


def test_down_says_that_it_may_not_stop_the_process_of_another_user(running: DataFolder) -> None:
    """In a folder that older versions left open the lock can be read, but its process not be told."""
    running.path.chmod(0o755)
    running.lock_file.chmod(0o644)
    code, said = _run_as_nobody(running, "down")
    assert (code, "belongs to another user" in said, "Traceback" in said) == (1, True, False)


def _run_as_nobody(folder: DataFolder, *command: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, *command, "--data-dir", str(folder.path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_keys_speak_of_the_folder_that_is_named(tmp_path: Path) -> None:
    """--data-dir counts before and after the command's name; help needs no stack."""
    makes = ["create", "belt", "--scope", "ingest"]
    option = ["--data-dir", str(tmp_path / "none")]
    for words in ([*option, *makes], [*makes, *option], ["list", *option], ["revoke", "belt", *option]):
        result = CliRunner().invoke(cli, ["keys", *words])
        assert (result.exit_code, f"No stack runs on {tmp_path / 'none'}" in result.output) == (1, True)
    for command in ("create", "list", "revoke"):
        result = CliRunner().invoke(cli, ["keys", command, "--help"])
        assert (result.exit_code, "--data-dir" in result.output) == (0, True)


def test_a_joining_worker_needs_addresses(tmp_path: Path) -> None:
    """Without an env file and without variables, the sentence says what to give."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WASTESTREAM_")}
    result = CliRunner(env=environment).invoke(cli, ["worker", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "--env-file" in result.output


def test_a_joining_worker_names_a_redis_that_does_not_answer(tmp_path: Path) -> None:
    """It does not wait for one that is not there."""
    (tmp_path / "worker.env").write_text("WASTESTREAM_REDIS_URL=redis://:secret@127.0.0.1:1/0\n")
    arguments = ["--env-file", "worker.env", "--data-dir", "data"]
    done = run_module("infra.cli", "worker", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "Redis at 127.0.0.1:1 does not answer" in done.stderr
    assert "secret" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_missing_model_ends_the_start(tmp_path: Path) -> None:
    """`up` names a model folder that is not there, and starts nothing."""
    model = str(tmp_path / "no-model")
    done = run_module(
        "infra.cli", "up", "--data-dir", tmp_path / "data", environment={"WASTESTREAM_MODEL_DIR": model}
    )
    assert done.returncode == 1
    assert "no-model" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()
