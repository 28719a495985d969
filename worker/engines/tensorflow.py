"""TensorFlow engine for the SavedModel on GPUs. On CPUs LiteRT is three times as fast."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.errors import ModelError
from core.model.manifest import SAVED_MODEL_NAME, load_manifest


class TensorFlowEngine:
    """See `core.model.engine`. Make it in the process that uses it: TensorFlow does not survive a fork.

    A batch is padded to the next power of two, because TensorFlow selects GPU kernels for each new shape,
    which takes longer than the padding.

    Args:
        folder: a model folder with a SavedModel and its manifest.

    Raises:
        ModelError: the folder is incomplete or altered, or TensorFlow is missing or cannot load the model.
    """

    def __init__(self, folder: Path) -> None:
        check(folder)
        self.manifest = load_manifest(folder, check=SAVED_MODEL_NAME)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf  # noqa: PLC0415 - seconds and hundreds of MB, for this engine alone

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # so that workers can share it
        try:
            # Keep the model: its functions hold only weak references to the variables.
            self._model = tf.saved_model.load(folder / SAVED_MODEL_NAME)
            self._call = self._model.signatures["serving_default"]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise ModelError(f"TensorFlow cannot load {folder / SAVED_MODEL_NAME}: {error}") from error
        self._constant = tf.constant

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Engine.logits`."""
        if not len(pixels):
            return np.empty(0, np.float32)
        padded = np.zeros((1 << (len(pixels) - 1).bit_length(), *pixels.shape[1:]), np.uint8)
        padded[: len(pixels)] = pixels
        logits = self._call(pixels=self._constant(padded))["logits"]
        return np.asarray(logits, np.float32)[: len(pixels)]


def check(folder: Path) -> None:
    """Check the model folder and the installation without loading TensorFlow, which the parent must not.

    Raises:
        ModelError: as the engine.
    """
    load_manifest(folder, check=SAVED_MODEL_NAME)
    if importlib.util.find_spec("tensorflow") is None:
        raise ModelError(
            "WASTESTREAM_ENGINE is tensorflow, but TensorFlow is not installed here: install "
            "requirements/worker-tensorflow.txt or `pip install 'WHEEL[gpu]'`, or set "
            "WASTESTREAM_ENGINE=auto."
        )
