"""A loaded model: pixels in, logits out. Worker and evaluation run the same one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from core.errors import ModelError
from core.model.cpu import multiplies_bytes
from core.model.manifest import INT8_NAME, ModelManifest, load_manifest

SUB_BATCH: Final = 8
"""Images per model call. On one Zen 3 thread: 1: 329 images/s, 8: 364, 32: 331, 64: 315."""


Weights = Literal["float", "int8"]
"""Weights of one of a model folder's two `.tflite` files."""


def choose_weights(wanted: Weights | Literal["auto"], folder: Path) -> Weights:
    """Return `wanted`, and for "auto" the faster weights of the folder on this CPU.

    Raises:
        ModelError: no manifest in the folder, or one that cannot be read.
    """
    if wanted != "auto":
        return wanted
    return "int8" if multiplies_bytes() and load_manifest(folder).int8 is not None else "float"


class Engine(Protocol):
    """Interface of inference engines: `LiteRtEngine` and, for GPUs, `worker.engines.tensorflow`."""

    manifest: ModelManifest

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return float32 (N,) log-odds of `non_biodegradable` for uint8 (N, 128, 128, 3)."""


class LiteRtEngine:
    """A `.tflite` model on LiteRT with its XNNPACK kernels.

    Two interpreters, one for full sub-batches and one for single images: resizing an interpreter's
    input re-plans its memory, which costs more than a model call, and a remainder run one by one
    costs 10 % more a piece than in a batch, less than padding it would. Not thread-safe.

    Args:
        folder: a model folder with `model.tflite` and its manifest.
        threads: CPU threads per model call.
        weights: which of its files; "int8" is `model.int8.tflite`.

    Raises:
        ModelError: the folder is incomplete or altered, or LiteRT cannot load the model.
    """

    def __init__(self, folder: Path, *, threads: int = 1, weights: Weights = "float") -> None:
        if weights == "float":
            self.manifest = load_manifest(folder)
        else:
            self.manifest = load_manifest(folder).of_int8()
            load_manifest(folder, check=INT8_NAME)
        self._path = folder / self.manifest.weights_name
        self._threads = threads
        self._full = self._load(SUB_BATCH)
        self._single = self._load(1)

    def logits(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Engine.logits`."""
        full = len(pixels) - len(pixels) % SUB_BATCH
        calls = [_invoke(self._full, pixels[at : at + SUB_BATCH]) for at in range(0, full, SUB_BATCH)]
        calls += [_invoke(self._single, pixels[at : at + 1]) for at in range(full, len(pixels))]
        return np.concatenate(calls) if calls else np.empty(0, np.float32)

    def _load(self, batch: int) -> Any:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - only who classifies pays for it

        size = self.manifest.input
        try:
            with _without_greeting():
                interpreter = Interpreter(model_path=str(self._path), num_threads=self._threads)
                index = interpreter.get_input_details()[0]["index"]
                interpreter.resize_tensor_input(index, (batch, size.height, size.width, size.channels))
                interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"LiteRT cannot load {self._path}: {error}") from error
        return interpreter


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Hide the lines that LiteRT writes to stderr at each load of a model; errors come as exceptions."""
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _invoke(interpreter: Any, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return np.asarray(output, np.float32).reshape(-1)
