"""Checkpoint of a training run: all variables and the position, replaced in one step."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from trainer.config import TrainConfig
from trainer.errors import CheckpointError, OutputError

CHECKPOINT_NAME: Final = "checkpoint.npz"


@dataclass
class Position:
    """Position of a run: the next `epoch` and `step`; `history` has one entry per finished epoch.

    `loss_sum` covers the finished steps of the epoch, `seconds` all steps, and `total_seconds` everything up
    to the last checkpoint, in all runs of the command that it took.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    total_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, float]:
        """Entry of the best epoch on held-out images, the last of equals; {} before the first."""
        return min(reversed(self.history), key=lambda entry: entry["held_out_loss"], default={})


def save(
    path: Path,
    position: Position,
    variables: Sequence[Any],
    *,
    config: TrainConfig,
    data_digest: str,
    weights: Mapping[str, str],
) -> None:
    """Write the run to `path`; an interrupted write keeps the previous checkpoint.

    Raises:
        OutputError: it cannot be written, for example on a full disk.
    """
    about = {"position": vars(position), "config": config.model_dump(mode="json"), "data": data_digest}
    about["weights"] = dict(weights)
    arrays = {f"v{at}": np.asarray(variable) for at, variable in enumerate(variables)}
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"The checkpoint {path} cannot be written ({error.strerror}). Free some space; "
            "then the same command with --resume continues from the previous checkpoint."
        ) from error


def restore(
    path: Path,
    variables: Sequence[Any],
    *,
    config: TrainConfig,
    data_digest: str,
    weights: Mapping[str, str],
) -> Position:
    """Assign the saved values to `variables` and return the position.

    Raises:
        CheckpointError: the file is damaged, or belongs to another configuration, other data or weights.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as stored:
            about = json.loads(str(stored["about"]))
            arrays = [stored[f"v{at}"] for at in range(len(stored.files) - 1)]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read ({error}); delete {path.parent} and train again."
        ) from error
    if about["config"] != config.model_dump(mode="json"):
        raise CheckpointError(f"{path} was written with another configuration; resume with the same one.")
    if about["data"] != data_digest:
        raise CheckpointError(f"{path} was written with other images; resume with the same --data.")
    if about.get("weights") != dict(weights):
        raise CheckpointError(f"{path} began with other weights; resume with the same --weights.")
    if len(arrays) != len(variables):
        raise CheckpointError(
            f"{path} has {len(arrays)} variables, expected {len(variables)}; "
            f"delete {path.parent} and train again."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return Position(**about["position"])
