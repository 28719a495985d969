"""The unit file of the gateway."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.cli.camera import camera
from tests.support.servers import REPOSITORY

_UNIT = REPOSITORY / "infra" / "systemd" / "wastestream-camera.service"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """Apart from its program and user, which are not on this machine."""
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    text = _UNIT.read_text().replace("/opt/wastestream-camera/bin/wastestream-camera", "/bin/true")
    unit = tmp_path / _UNIT.name
    unit.write_text(text.replace("User=wastestream-camera\n", ""))
    done = subprocess.run(
        [verify, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if _UNIT.name in line] == []


def test_its_command_line_is_the_gateways() -> None:
    """The options exist."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(_UNIT)
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert Path(program).name == "wastestream-camera"
    assert arguments[0] in {option for parameter in camera.params for option in parameter.opts}
