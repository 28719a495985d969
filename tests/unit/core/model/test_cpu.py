"""The CPU's features decide which of a model's files a worker runs."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from core.model.cpu import multiplies_bytes
from core.model.engine import choose_weights
from core.model.manifest import load_manifest

MODEL = Path("worker/model")


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


@pytest.mark.parametrize(("flag", "faster"), [("avx512_vnni", "int8"), ("avx2", "float")])
def test_a_worker_takes_the_faster_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, faster: str
) -> None:
    """Those of 8 bits where the folder has them and the CPU multiplies them faster."""
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flag}\n")
    monkeypatch.setattr("core.model.engine.multiplies_bytes", partial(multiplies_bytes, tmp_path / "cpuinfo"))
    assert choose_weights("auto", MODEL) == faster
    without = shutil.copytree(MODEL, tmp_path / "model")
    manifest = load_manifest(MODEL).model_copy(update={"int8": None})
    (without / "manifest.json").write_text(manifest.model_dump_json())
    assert choose_weights("auto", without) == "float"
