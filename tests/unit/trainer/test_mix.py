"""Mixing weights before and after fine-tuning: which mix is kept, and what its batch norms follow."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from trainer import mix as module
from trainer.config import MixConfig
from trainer.dataset import ImageSet
from trainer.fit import Run
from trainer.mix import mix

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE = 4
IMAGES = np.full((32, SIDE, SIDE, 3), 30, np.uint8)
IMAGES[::2] = 90  # mean 60, variance 900
HELD_OUT = {"validation": ImageSet(("a",), np.zeros(1, np.int64), ("b",), IMAGES[:1])}


def network(weight: float) -> Any:
    """Batch norm, mean of all pixels, one weight: a network whose parts can be read off."""
    pixels = keras.Input((SIDE, SIDE, 3))
    normal = keras.layers.BatchNormalization(momentum=0.0, name="normal")(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(normal)
    model = keras.Model(pixels, keras.layers.Dense(1, use_bias=False, name="weight")(pooled))
    model.get_layer("weight").set_weights([np.full((3, 1), weight, np.float32)])
    return model


def weight_of(model: Any) -> float:
    """The number that `network` was given."""
    return float(model.get_layer("weight").get_weights()[0][0, 0])


def mixed(
    monkeypatch: pytest.MonkeyPatch, best_weight: float, shares: tuple[float, ...]
) -> tuple[Run, list[dict[str, float]]]:
    """Mix weights 0 (before) and 10 (after); the nearer a mix' weight to `best_weight`, the better."""
    monkeypatch.setattr(
        module, "validate", lambda network, _: {"held_out_loss": abs(weight_of(network) - best_weight)}
    )
    run = Run(network(0), network(5), network(7), network(10), keras.optimizers.SGD())
    config = MixConfig(shares=shares, images=32)
    return run, mix(run, IMAGES, HELD_OUT, config, seed=1, on_mix=lambda _: None)


@pytest.mark.parametrize(("best_weight", "share"), [(10, 1.0), (8, 0.8), (0, 0.6)])
def test_the_best_mix_is_kept(monkeypatch: pytest.MonkeyPatch, best_weight: float, share: float) -> None:
    """Of those listed the one that is best on held-out images, and it stands first in what is returned."""
    run, entries = mixed(monkeypatch, best_weight, (1.0, 0.8, 0.6))
    assert weight_of(run.best) == pytest.approx(10 * share)
    assert entries[0]["share"] == share
    assert {entry["share"] for entry in entries} == {1.0, 0.8, 0.6}


def test_batch_norms_follow_the_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mix has statistics of the training images; fine-tuned weights alone keep those they have."""
    run, _ = mixed(monkeypatch, 5, (1.0, 0.5))
    _, _, mean, variance = run.best.get_layer("normal").get_weights()
    np.testing.assert_allclose(mean, 60, rtol=1e-4)
    np.testing.assert_allclose(variance, 900, rtol=1e-3)
    run, _ = mixed(monkeypatch, 10, (1.0,))
    np.testing.assert_array_equal(run.best.get_layer("normal").get_weights()[2], 0)
