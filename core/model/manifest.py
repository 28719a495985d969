"""The manifest beside a model: its identity, the reading of its output, its quality."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import ModelError
from core.jobs import Prediction

BIODEGRADABLE: Final = "biodegradable"
NON_BIODEGRADABLE: Final = "non_biodegradable"

MANIFEST_NAME: Final = "manifest.json"
TFLITE_NAME: Final = "model.tflite"
INT8_NAME: Final = "model.int8.tflite"
"""The same network in whole numbers of 8 bits, faster on CPUs with instructions for them."""
SAVED_MODEL_NAME: Final = "saved_model"
"""A folder: TensorFlow's own format, for workers with a GPU."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class FileEntry(_Frozen):
    """One file of the model folder, named by its path in it."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)


class InputEntry(_Frozen):
    """Input of the exported graph: a batch of arrays as `core.images.decode` returns them."""

    height: int
    width: int
    channels: Literal[3] = 3
    dtype: Literal["uint8"] = "uint8"
    color: Literal["RGB"] = "RGB"
    decode: Literal["core.images.decode"] = "core.images.decode"
    scaling: Literal["inside the graph: pixel / 127.5 - 1"] = "inside the graph: pixel / 127.5 - 1"


class Metric(_Frozen):
    """A measured value with the ends of its 95 % interval, where one was computed."""

    value: float
    low: float | None = None
    high: float | None = None


class Int8Entry(_Frozen):
    """Calibration and figures of the 8-bit model, and its agreement with the float model.

    The first four are as in `ModelManifest`, and of the 8-bit model itself: temperature and review band are
    fitted to its logits, and the threshold is where the float model's labels change, so that both give an
    image the same label. `agreement` is the share of images not trained on that get the same label from both,
    `roc_auc_loss` the loss of area under the ROC curve on them.
    """

    temperature: float = Field(gt=0)
    threshold: float = Field(gt=0, lt=1)
    review_band: tuple[float, float]
    metrics: dict[str, dict[str, Metric]]
    agreement: float = Field(ge=0, le=1)
    roc_auc_loss: float


class ModelManifest(_Frozen):
    """Description of a model folder: all that a program needs besides the weights.

    The graph returns one logit per image, shape (N,): the log-odds of `non_biodegradable`,
    before calibration. That and `metrics` are of the float model; `int8` holds those of the 8-bit one.
    """

    format: Literal[1] = 1
    name: str
    version: str = Field(pattern=r"^[0-9A-Za-z.\-]{1,40}$")
    created: datetime
    architecture: str
    labels: tuple[str, str] = (BIODEGRADABLE, NON_BIODEGRADABLE)
    input: InputEntry
    temperature: float = Field(gt=0, description="the logit is divided by this before the sigmoid")
    threshold: float = Field(gt=0, lt=1, description="at or above: non_biodegradable")
    review_band: tuple[float, float] = Field(description="between these probabilities a person looks")
    files: dict[str, FileEntry]
    data: dict[str, Any]
    training: dict[str, Any]
    versions: dict[str, str]
    metrics: dict[str, dict[str, Metric]] = Field(description="by image set: test, validation, ...")
    int8: Int8Entry | None = Field(None, description="of `model.int8.tflite`, where there is one")
    weights_name: str = Field(TFLITE_NAME, exclude=True, description="the file that this program runs")

    @property
    def model_id(self) -> str:
        """The version and the first 12 hex digits of the weights' sha256, as every prediction names it."""
        return f"{self.version}+{self.files[self.weights_name].sha256[:12]}"

    @property
    def weights(self) -> Literal["float", "int8"]:
        """Weights that this program runs."""
        return "int8" if self.weights_name == INT8_NAME else "float"

    def of_int8(self) -> ModelManifest:
        """Return the manifest as the 8-bit model is read.

        Raises:
            ModelError: the folder holds none.
        """
        if self.int8 is None or INT8_NAME not in self.files:
            raise ModelError(
                f"The model {self.version} has no {INT8_NAME}: train again, or set WASTESTREAM_ENGINE=float."
            )
        return self.model_copy(
            update={
                "temperature": self.int8.temperature,
                "threshold": self.int8.threshold,
                "review_band": self.int8.review_band,
                "metrics": self.int8.metrics,
                "weights_name": INT8_NAME,
            }
        )

    def predict(self, logit: float) -> Prediction:
        """Read one output of the graph: calibrate it, then apply threshold and review band."""
        probability = calibrated(logit, self.temperature)
        low, high = self.review_band
        non_biodegradable = probability >= self.threshold
        return Prediction(
            label=self.labels[1] if non_biodegradable else self.labels[0],
            probability=probability if non_biodegradable else 1.0 - probability,
            review=low < probability < high,
        )


def calibrated(logit: float, temperature: float) -> float:
    """Return the sigmoid of `logit / temperature` (temperature scaling, Guo et al. 2017)."""
    scaled = max(-60.0, min(60.0, logit / temperature))  # beyond this the sigmoid is 0 or 1 in float64
    return 1.0 / (1.0 + math.exp(-scaled))


def file_entry(path: Path) -> FileEntry:
    """Describe the file at `path` for a manifest."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(sha256=digest, bytes=path.stat().st_size)


def load_manifest(folder: Path, *, check: str = TFLITE_NAME) -> ModelManifest:
    """Read a model folder's manifest and compare files with it.

    Args:
        folder: the model folder.
        check: the file, or the folder of files, that the caller is about to use.

    Raises:
        ModelError: no manifest, one that cannot be read, a named file missing or altered.
    """
    path = folder / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(
            f"No model in {folder}: {path.name} cannot be read ({error.strerror}). "
            "Name a folder that `wastestream train` wrote."
        ) from error
    try:
        manifest = ModelManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ModelError(f"{path} is not a model manifest: {where}: {first['msg']}.") from error
    names = [name for name in manifest.files if name == check or name.startswith(f"{check}/")]
    if not names:
        raise ModelError(f"The manifest in {folder} does not list {check}; train or export the model again.")
    for name in names:
        _check_file(folder / name, manifest.files[name])
    return manifest


def _check_file(path: Path, expected: FileEntry) -> None:
    try:
        actual = file_entry(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); the manifest lists it.") from error
    if actual.sha256 != expected.sha256:
        raise ModelError(
            f"{path} is not the file that the manifest describes "
            f"(sha256 {actual.sha256[:12]}..., expected {expected.sha256[:12]}...). "
            "Copy the model folder again."
        )
