"""The CPU's features decide which of a model's files a worker runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.model.cpu import multiplies_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\nflags\t\t: fpu avx2 amx_int8\n", True),
        ("flags\t\t: fpu avx2\n", False),
        ("flags\t\t: fpu avx2 avx_vnni\nflags\t\t: fpu avx2\n", False),
        ("Features\t: fp asimd asimddp\n", True),
        ("Features\t: fp asimd\n", False),
        ("processor\t: 0\n", False),
    ],
)
def test_every_core_must_have_the_instructions(text: str, *, expected: bool, tmp_path: Path) -> None:
    """The kernel may move a worker to any of them."""
    (tmp_path / "cpuinfo").write_text(text)
    assert multiplies_bytes(tmp_path / "cpuinfo") is expected


def test_elsewhere_the_float_model_runs(tmp_path: Path) -> None:
    """On a system without a description of the CPU."""
    assert not multiplies_bytes(tmp_path / "nowhere")
