"""The loop around the training steps: which weights it keeps, and when it stops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer import fit
from trainer.checkpoint import Position
from trainer.config import TrainConfig, load_config
from trainer.dataset import ImageSet
from trainer.errors import DivergedError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def one_weight() -> Any:
    """A network of a single number."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.zeros((1, 1), np.float32)])
    return model


def number(model: Any) -> float:
    """The number that `one_weight` consists of."""
    return float(model.get_weights()[0][0, 0])


def train_through(
    losses: list[float], patience: int, monkeypatch: pytest.MonkeyPatch, *, settle: int = 0
) -> tuple[fit.Run, Position]:
    """Run the loop over as many epochs; the average's number is the epoch, its loss as given.

    The loss of each step is the radius of sharpness-aware minimization.
    """
    run = fit.Run(one_weight(), one_weight(), one_weight(), one_weight(), keras.optimizers.SGD())
    position = Position()

    def step(run: fit.Run, *_: object, radius: float, **__: object) -> Callable[..., Any]:
        def once(*_: object) -> Any:
            run.average.set_weights([np.full((1, 1), position.epoch + 1, np.float32)])
            return tf.constant(radius)

        return once

    def validate(network: Any, _: object) -> dict[str, float]:
        return {"held_out_loss": losses[round(number(network)) - 1]}

    monkeypatch.setattr(fit, "_train_step", step)
    monkeypatch.setattr(fit, "validate", validate)
    settings = load_config().model_dump(mode="json")
    settings["fine_tune"] |= {"sides": [32] * (len(losses) - settle), "patience": patience, "batch": 4}
    settings["settle"] |= {"epochs": settle, "sharpness": 0.25}
    images = ImageSet(("a",) * 4, np.zeros(4, np.int64), ("b",) * 4, np.zeros((4, 32, 32, 3), np.uint8))
    fit.fine_tune(
        run,
        position,
        images,
        {"validation": images},
        TrainConfig.model_validate(settings),
        on_step=lambda *_: None,
        on_epoch=lambda _: None,
        save=lambda: None,
    )
    return run, position


def test_the_best_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that are exported are those of the lowest loss on held-out images, not the last ones."""
    run, position = train_through([0.8, 0.4, 0.5], 3, monkeypatch)
    assert (number(run.best), number(run.average), position.epoch) == (2, 3, 3)


def test_training_stops_when_nothing_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs without a better one end it, however many were planned."""
    run, position = train_through([0.8, 0.4, 0.5, 0.45, 0.1, 0.1], 2, monkeypatch)
    assert (number(run.best), len(position.history)) == (2, 4)


def test_colours_settle_though_nothing_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last epochs are those of the configuration, and take part in the choice of the best."""
    run, position = train_through([0.8, 0.4, 0.5, 0.45, 0.1, 0.43, 0.35], 2, monkeypatch, settle=2)
    assert [entry["epoch"] for entry in position.history] == [1, 2, 3, 4, 6, 7]
    assert number(run.best) == 7


def test_sharpness_counts_while_colours_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """It doubles the time of an epoch, so it is for the last ones."""
    _, position = train_through([0.5, 0.4, 0.3, 0.2], 4, monkeypatch, settle=2)
    assert [entry["loss"] for entry in position.history] == [0, 0, 0.25, 0.25]


def test_a_network_that_is_no_number_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if only the last step broke it: it must not be taken for the best."""
    with pytest.raises(DivergedError, match="held-out images is nan in epoch 2: lower"):
        train_through([0.5, math.nan], 4, monkeypatch)
