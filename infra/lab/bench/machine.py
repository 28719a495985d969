"""The machine that figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Final

import psutil

_BUSY: Final = 0.3  # load per core from which figures are disturbed


def describe(cores: int) -> dict[str, Any]:
    """Describe this machine, without names; `cores` of it are used."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_used": cores,
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def warnings() -> list[str]:
    """Return sentences on what disturbs figures on this machine now."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < _BUSY * cores:
        return []
    return [
        f"The machine was busy before the start (load {load:.1f} on {cores} cores): read ratios, not figures."
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
