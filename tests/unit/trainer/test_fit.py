"""The loop around the training steps: which weights it keeps, and when it stops."""

from __future__ import annotations

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
    """Run the loop over as many epochs; the average's number is the epoch, its loss as given."""
    run = fit.Run(one_weight(), one_weight(), one_weight(), one_weight(), keras.optimizers.SGD())
    position = Position()

    def step(run: fit.Run, *_: object, **__: object) -> Callable[..., Any]:
        def once(*_: object) -> Any:
            run.average.set_weights([np.full((1, 1), position.epoch + 1, np.float32)])
            return tf.constant(0.1)

        return once

    def validate(network: Any, _: object) -> dict[str, float]:
        return {"held_out_loss": losses[round(number(network)) - 1]}

    monkeypatch.setattr(fit, "_train_step", step)
    monkeypatch.setattr(fit, "validate", validate)
    settings = load_config().model_dump(mode="json")
    settings["fine_tune"] |= {"sides": [32] * (len(losses) - settle), "patience": patience, "batch": 4}
    settings["settle"]["epochs"] = settle
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
