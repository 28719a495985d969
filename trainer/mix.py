"""Mixing the weights before and after fine-tuning, which carries over better to what was not trained on.

Fine-tuning learns the kinds of objects in the training images and forgets some of what ImageNet's weights
know of others. Between both lie weights that keep more of it (WiSE-FT, Wortsman et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.config import MixConfig
from trainer.dataset import ImageSet
from trainer.fit import Run, copy_weights, validate

_BATCH: Final = 64  # images from which one update of the batch-norm statistics is made

Weights = list[npt.NDArray[np.float32]]


def mix(
    run: Run,
    images: npt.NDArray[np.uint8],
    held_out: Mapping[str, ImageSet],
    config: MixConfig,
    *,
    seed: int,
    on_mix: Callable[[dict[str, float]], None],
) -> list[dict[str, float]]:
    """Replace `run.best` by its best mix with `run.start`; `run.network` is used up.

    Args:
        run: a run whose fine-tuning is done.
        images: of training, uint8 (N, 128, 128, 3).
        held_out: sets of images by name; the mean of the losses on them says which mix is the best.
        config: which mixes.
        seed: of the choice of images.
        on_mix: called with each mix' entry: its share of the fine-tuned weights, and `fit.validate` of it.

    Returns:
        The entries, the best one first.
    """
    before, after = _weights(run.start), _weights(run.best)
    chosen = images[np.random.default_rng(seed).permutation(len(images))[: config.images]]
    found: list[tuple[dict[str, float], Weights]] = []
    for share in config.shares:
        run.network.set_weights([share * b + (1 - share) * a for a, b in zip(before, after, strict=True)])
        if share < 1:
            _estimate_statistics(run.network, chosen)
        entry = {"share": share} | validate(run.network, held_out)
        on_mix(entry)
        found.append((entry, _weights(run.network)))
    found.sort(key=lambda one: one[0]["held_out_loss"])  # stable: of equal ones the first listed
    run.network.set_weights(found[0][1])
    copy_weights(run.best, run.network)
    return [entry for entry, _ in found]


def _weights(network: Any) -> Weights:
    return [np.asarray(weight) for weight in network.weights]


def _estimate_statistics(network: Any, images: npt.NDArray[np.uint8]) -> None:
    """Let the batch norms that were trained follow `images`; those of neither network fit their mix."""

    def call(batch: Any) -> None:
        network(tf.cast(batch, tf.float32), training=True)

    compiled = tf.function(call, jit_compile=False, reduce_retracing=True)
    batch = min(_BATCH, len(images))
    for at in range(0, len(images) - batch + 1, batch):
        compiled(tf.constant(images[at : at + batch]))
