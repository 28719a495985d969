"""The network in whole numbers of 8 bits: weights per channel, activations per tensor (Jacob et al. 2018).

On CPUs with instructions for products of 8-bit numbers it takes half the time of the float model.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from core.images import SIDE
from core.model.engine import LiteRtEngine
from core.model.manifest import INT8_NAME, Int8Entry, ModelManifest
from trainer.calibrate import to_probabilities
from trainer.export import write_manifest
from trainer.fake_quant import Ranges, rounded
from trainer.metrics import roc_auc
from trainer.network import Model

RANGE_IMAGES: Final = 1024
"""Images on which the ranges of the activations are measured."""

_READING: Final = {"temperature", "threshold", "review_band"}

MIN_AGREEMENT: Final = 0.995
"""Least share of held-out images that must get the same label from the float and the 8-bit model."""

MAX_ROC_AUC_LOSS: Final = 0.001
"""Most that the 8-bit model may lose of the float model's area under the ROC curve."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences of the 8-bit and the float model on held-out images: `core.model.manifest.Int8Entry`."""

    agreement: float
    roc_auc_loss: float
    logit_difference: float  # standard deviation

    @property
    def good_enough(self) -> bool:
        """Whether the 8-bit model may be shipped."""
        return self.agreement >= MIN_AGREEMENT and self.roc_auc_loss <= MAX_ROC_AUC_LOSS


def to_int8_tflite(network: Model, ranges: Ranges) -> bytes:
    """Convert `trainer.bn_folding.folded`'s network: uint8 pixels in, float32 logits out, any batch size.

    The scaling to -1..1 becomes how the input's bytes are read. The head stays in float: rounded to 8 bits,
    logits near the threshold would be the same for many images.

    Args:
        network: what to convert.
        ranges: of its activations; of `trainer.fake_quant.measure`.
    """
    features = rounded(network, ranges)
    # Without the layer "logit", a reshape that would be rounded.
    model = keras.Model(features.input, network.get_layer("head")(features.output))

    def classify(images: Any) -> Any:
        return model(images, training=False)

    any_batch = tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="pixels")
    function = tf.function(classify, autograph=False).get_concrete_function(any_batch)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(function)])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.uint8
    with warnings.catch_warnings():
        # Meant for converters older than this one; the ranges are in the graph.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        return bytes(converter.convert())


def add_int8(
    folder: Path,
    manifest: ModelManifest,
    pixels: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
) -> tuple[ModelManifest, Comparison]:
    """Compare the 8-bit model of a folder with the float one; the manifest is written.

    It is read as the float model is, because `trainer.qat` makes its logits the same. Calibrated by itself it
    would get another threshold by chance, since many are about as good.

    Args:
        folder: with both models.
        manifest: of the folder, calibrated for the float model.
        pixels: uint8 (N, 128, 128, 3), held out from training.
        labels: int64 (N,).

    Returns:
        The manifest with the 8-bit model's section, without metrics, and the comparison.
    """
    # Until it is compared, the section only lets the engine load the model.
    entry = Int8Entry(**manifest.model_dump(include=_READING), metrics={}, agreement=1.0, roc_auc_loss=0.0)
    write_manifest(folder, manifest.model_copy(update={"int8": entry}))
    logits = [
        engine.logits(pixels) for engine in (LiteRtEngine(folder), LiteRtEngine(folder, weights="int8"))
    ]
    scores = [to_probabilities(each, manifest.temperature) for each in logits]
    said = [each >= manifest.threshold for each in scores]
    compared = Comparison(
        float(np.mean(said[0] == said[1])),
        roc_auc(labels, scores[0]) - roc_auc(labels, scores[1]),
        float(np.std(logits[0] - logits[1])),
    )
    update = {"agreement": compared.agreement, "roc_auc_loss": compared.roc_auc_loss}
    manifest = manifest.model_copy(update={"int8": entry.model_copy(update=update)})
    write_manifest(folder, manifest)
    return manifest, compared


def remove_int8(folder: Path, manifest: ModelManifest) -> ModelManifest:
    """Take the 8-bit model out of a folder and its manifest."""
    files = {name: entry for name, entry in manifest.files.items() if name != INT8_NAME}
    manifest = manifest.model_copy(update={"int8": None, "files": files})
    write_manifest(folder, manifest)
    (folder / INT8_NAME).unlink()
    return manifest
