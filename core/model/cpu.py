"""Features of this machine's CPU that decide which of a model's files runs faster."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_INFO: Final = Path("/proc/cpuinfo")
_FLAGS: Final = ("flags", "Features")  # the line's name on x86 and on Arm
_BYTE_PRODUCTS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


def multiplies_bytes(info: Path = _INFO) -> bool:
    """Return whether every core has instructions for products of 8-bit numbers.

    With them the 8-bit model takes half the time of the float model, without them it is slower. Without a
    description of the CPU, as on macOS, this is false.

    Args:
        info: Linux' description of the CPUs.
    """
    try:
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    named = (line.partition(":") for line in lines)
    cores = [set(values.split()) for name, _, values in named if name.strip() in _FLAGS]
    return bool(cores) and all(flags & _BYTE_PRODUCTS for flags in cores)
