"""The network in whole numbers of 8 bits: weights per channel, activations per tensor (Jacob et al. 2018).

On CPUs with instructions for products of 8-bit numbers it takes half the time of the float model.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from core.images import SIDE
from core.model.engine import LiteRtEngine
from core.model.manifest import INT8_NAME, Int8Entry, ModelManifest
from trainer.calibrate import cut_of
from trainer.compare import Comparison, compare, int8_entry
from trainer.dataset import ImageSet
from trainer.evaluate import logits_of
from trainer.export import write_manifest
from trainer.fake_quant import Ranges, rounded
from trainer.network import Model

RANGE_IMAGES: Final = 1024
"""Images on which the ranges of the activations are measured."""


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
    held_out: Iterable[ImageSet],
    chosen: ImageSet,
    *,
    review_error: float,
) -> tuple[ModelManifest, Comparison]:
    """Calibrate the 8-bit model of a folder and compare it with the float one; the manifest is written.

    It has a temperature and a review band of its own. Its threshold is where the float model's labels change,
    because `trainer.qat` makes its logits the same. Chosen by itself it would differ by chance: many
    thresholds are as good, and labels would no longer agree.

    Args:
        folder: with both models.
        manifest: of the folder, calibrated for the float model.
        held_out: sets of images held out from training, to compare on.
        chosen: those that the float model was calibrated on.
        review_error: as `trainer.calibrate.choose_review_band`.

    Returns:
        The manifest with the 8-bit model's section, without metrics, and the comparison.
    """
    # Until it is calibrated, the section only lets the engine load the model.
    reading = manifest.model_dump(include={"temperature", "threshold", "review_band"})
    loadable = Int8Entry(**reading, metrics={}, agreement=1.0, roc_auc_loss=0.0)
    write_manifest(folder, manifest.model_copy(update={"int8": loadable}))
    engine, int8 = LiteRtEngine(folder), LiteRtEngine(folder, weights="int8")
    sets = list(held_out)
    cut = cut_of(manifest.temperature, manifest.threshold)
    compared = compare(
        np.concatenate([images.labels for images in sets]),
        np.concatenate([logits_of(engine, images.pixels) for images in sets]),
        np.concatenate([logits_of(int8, images.pixels) for images in sets]),
        cut=cut,
    )
    logits = logits_of(int8, chosen.pixels)
    entry = int8_entry(logits, chosen, compared, cut=cut, review_error=review_error)
    manifest = manifest.model_copy(update={"int8": entry})
    write_manifest(folder, manifest)
    return manifest, compared


def remove_int8(folder: Path, manifest: ModelManifest) -> ModelManifest:
    """Take the 8-bit model out of a folder and its manifest."""
    files = {name: entry for name, entry in manifest.files.items() if name != INT8_NAME}
    manifest = manifest.model_copy(update={"int8": None, "files": files})
    write_manifest(folder, manifest)
    (folder / INT8_NAME).unlink()
    return manifest
