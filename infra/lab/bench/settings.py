"""Settings under which a benchmark measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.model.engine import LiteRtEngine, Weights, choose_weights
from core.model.manifest import load_manifest
from core.settings import Settings
from infra.lab.bench.plan import Plan


def weights_of(settings: Settings) -> tuple[Weights, Weights | None]:
    """Return the weights of the workers, and the model's other weights if it has them.

    TensorFlow runs the float weights: its baseline is that of the float model on LiteRT.
    """
    folder, wanted = settings.model_dir, settings.engine
    chosen = choose_weights("float" if wanted == "tensorflow" else wanted, folder)
    if load_manifest(folder).int8 is None:
        return chosen, None
    return chosen, "float" if chosen == "int8" else "int8"


def used_settings(settings: Settings, plan: Plan, images: Path | None, workers: int) -> dict[str, Any]:
    """Return what a reader of the figures must know.

    Raises:
        ModelError: the model cannot be loaded.
    """
    weights, _ = weights_of(settings)
    return {
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "images": "shipped" if images is None else "given",
        "main": plan.main.name,
        "workers": workers,
        "api_processes": settings.api_processes,
        "api_threads": settings.api_threads,
        "max_batch": settings.max_batch,
        "engine": "tensorflow" if settings.engine == "tensorflow" else weights,
        "model": LiteRtEngine(settings.model_dir, weights=weights).manifest.model_id,
    }
