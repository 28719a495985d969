"""Description of the machine under measurement."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any, Final

import psutil

from infra.lab.bench.errors import BenchError

_BUSY: Final = 0.3  # load per core that distorts figures


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
    """Return a sentence for each condition of this machine that distorts figures now."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < _BUSY * cores:
        return []
    busy = f"The machine was busy before the start (load {load:.1f} on {cores} cores)"
    return [f"{busy}: compare ratios, not figures."]


def check_space(folder: Path, needed: float) -> None:
    """Return if a folder has space for images.

    Raises:
        BenchError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BenchError(
            f"The images may take {needed / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB. "
            "Set the environment variable TMPDIR to a folder with more space, or reduce --seconds."
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
