"""The bootstrap script `./wastestream`, in a folder of its own, with a stand-in for uv."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import REPOSITORY

_UV = """\
#!/bin/sh
# Stands in for uv: notes how it was called, and makes an environment whose python prints its arguments.
case $1 in
--version) echo "uv 0"; exit ;;
venv)
    for last in "$@"; do :; done
    rm -rf "$last"; mkdir -p "$last/bin"
    printf '#!/bin/sh\\necho "$PWD|$PYTHONPATH|$*"\\n' > "$last/bin/python"
    chmod +x "$last/bin/python" ;;
esac
if [ "$1" = pip ]; then echo "$*" >> "$NOTES"; fi
if [ "$1 $2" = "pip install" ]; then mkdir -p "$NOTES-root/.wastestream/servers.new/bin"; fi
if [ -e "$NOTES.fail" ] && [ "$1" = pip ]; then exit 1; fi
exit 0
"""


class Checkout:
    """A folder with the script and requirement files, and a PATH on which only a stand-in uv is found."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.root = folder / "notes-root"
        (self.root / "requirements").mkdir(parents=True)
        for name in ("serve", "train", "bench", "camera", "soak", "test", "servers", "uv"):
            (self.root / "requirements" / f"{name}.txt").write_text(f"{name}==1\n")
        shutil.copy(REPOSITORY / "wastestream", self.root)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("sh", "dirname", "readlink", "cmp", "cp", "mv", "rm", "mkdir", "chmod", "flock"):
            (self.bin / name).symlink_to(shutil.which(name) or "/nowhere")
        (self.bin / "uv").write_text(_UV)
        (self.bin / "uv").chmod(0o755)

    def run(
        self,
        *arguments: str,
        script: Path | None = None,
        cwd: Path | None = None,
        umask: int = 0o022,
        user: int | None = None,
    ) -> tuple[int, str, str]:
        """Run the script; return exit code, standard output and standard error."""
        done = subprocess.run(
            [script or self.root / "wastestream", *arguments],
            cwd=cwd or self.root,
            env={"PATH": str(self.bin), "NOTES": str(self.notes), "HOME": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            umask=umask,
            user=user,
        )
        return done.returncode, done.stdout, done.stderr

    def installs(self) -> list[str]:
        """Return the installations that uv was asked for since the last call."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        return [Path(line.split()[-1]).name for line in lines]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A fresh clone."""
    return Checkout(tmp_path)


@pytest.mark.parametrize(
    ("command", "installed"),
    [
        (["up"], ["serve.txt", "servers.txt"]),
        (["bench"], ["bench.txt", "servers.txt"]),
        (["soak"], ["soak.txt", "servers.txt"]),
        (["camera", "status"], ["camera.txt"]),
        (["status"], ["serve.txt"]),
        (["classify", "a.jpg"], ["serve.txt"]),
        (["worker"], ["serve.txt"]),
        ([], ["serve.txt"]),
        (["--help"], ["serve.txt"]),
        (["train"], ["train.txt"]),
        (["evaluate"], ["serve.txt"]),
        (["test", "-k", "x"], ["test.txt", "servers.txt"]),
    ],
)
def test_a_command_installs_what_it_needs_once(
    checkout: Checkout, command: list[str], installed: list[str]
) -> None:
    """The first run installs, with hashes; the second one only runs."""
    code, out, _ = checkout.run(*command)
    assert code == 0
    assert out.strip().endswith(f"-P -m infra.cli {' '.join(command or ['--help'])}")
    assert "--require-hashes" in checkout.notes.read_text()
    assert checkout.installs() == installed
    assert checkout.run(*command)[0] == 0
    assert checkout.installs() == []


def test_changed_requirements_are_installed(checkout: Checkout) -> None:
    """After an update of the checkout the environment follows."""
    checkout.run("status")
    checkout.installs()
    (checkout.root / "requirements" / "serve.txt").write_text("serve==2\n")
    checkout.run("status")
    assert checkout.installs() == ["serve.txt"]


def test_a_failed_installation_is_tried_again(checkout: Checkout) -> None:
    """A failure is reported and ends the run; its partial files are never used."""
    failing = checkout.notes.with_name("notes.fail")
    failing.touch()
    code, out, err = checkout.run("status")
    assert (code, out) == (1, "")
    assert "the packages could not be installed" in err
    checkout.installs()
    failing.unlink()
    assert checkout.run("status")[0] == 0
    assert checkout.installs() == ["serve.txt"]


def test_a_missing_python_makes_the_environment_again(checkout: Checkout) -> None:
    """An environment whose Python is gone is made afresh."""
    checkout.run("status")
    checkout.installs()
    (checkout.root / ".wastestream" / "serve" / "bin" / "python").unlink()
    assert checkout.run("status")[0] == 0
    assert checkout.installs() == ["serve.txt"]


def test_two_at_once_install_once(checkout: Checkout) -> None:
    """The second waits for the first, and finds everything there."""
    command = [str(checkout.root / "wastestream"), "up"]
    environment = {"PATH": str(checkout.bin), "NOTES": str(checkout.notes), "HOME": str(checkout.root)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert checkout.installs() == ["serve.txt", "servers.txt"]


def test_it_works_from_any_folder_and_by_a_link(checkout: Checkout, tmp_path: Path) -> None:
    """The caller's folder stays the current one, for the paths named; the code is found all the same."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to("../notes-root/wastestream")
    code, out, _ = checkout.run("status", script=elsewhere / "link", cwd=elsewhere)
    assert (code, out) == (0, f"{elsewhere}|{checkout.root}:{checkout.root}/client|-P -m infra.cli status\n")


_NOBODY = 65534  # a user who is not the one that runs the tests, if that is root


@pytest.fixture
def shared() -> Iterator[Checkout]:
    """A fresh clone in a folder that other users can reach; pytest's own is private."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a program as another user")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield Checkout(folder)
    shutil.rmtree(folder)


def test_what_another_user_installed_runs(shared: Checkout) -> None:
    """Nothing has to be written, so no right to write is needed, with any umask of the other user."""
    assert shared.run("up", umask=0o077)[0] == 0
    code, out, err = shared.run("up", user=_NOBODY)
    assert (code, err) == (0, "")
    assert out.strip().endswith("-m infra.cli up")


def test_who_cannot_install_is_told_what_to_do(shared: Checkout) -> None:
    """An environment to be installed, or one whose Python is another user's own, each in a sentence."""
    code, _, err = shared.run("status", user=_NOBODY)
    assert code == 1
    assert "has to install something" in err
    shared.run("status")
    private = shared.root / "private"
    private.mkdir(mode=0o700)
    python = shared.root / ".wastestream" / "serve" / "bin" / "python"
    (private / "python").write_bytes(python.read_bytes())
    python.unlink()
    python.symlink_to(private / "python")
    code, _, err = shared.run("status", user=_NOBODY)
    assert code == 1
    assert f"runs on {private / 'python'}, which you may not run" in err


def test_without_python_and_uv_it_says_what_to_install(checkout: Checkout) -> None:
    """A shim that fails, as version managers leave them, is no Python."""
    (checkout.bin / "uv").unlink()
    (checkout.bin / "python3").write_text("#!/bin/sh\nexit 127\n")
    (checkout.bin / "python3").chmod(0o755)
    code, _, err = checkout.run("status")
    assert code == 1
    assert "needs Python 3.11, 3.12 or 3.13, or uv" in err


def test_a_python_without_pip_and_venv_says_what_to_install(checkout: Checkout) -> None:
    """As Debian's python3 is without python3-pip and python3-venv."""
    (checkout.bin / "uv").unlink()
    (checkout.bin / "python3").touch(0o755)
    (checkout.bin / "python3").write_text('#!/bin/sh\nif [ "$1" = -c ]; then echo "$0"; else exit 1; fi\n')
    code, _, err = checkout.run("status")
    assert code == 1
    assert "neither pip nor venv" in err
