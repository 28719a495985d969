"""Accuracy by kind of object, which an average over images hides."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.kinds import by_kind, kind_lines, kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("test/TEST/R/R_10384.jpg", "curtains"),
        ("test/TEST/R/R_10385.jpg", "drinking straws"),
        ("test/TEST/R/R_11111.jpg", "tissue paper, paper flowers"),
        ("test/TEST/R/R_11112.jpg", "R 11000-11499"),
        ("test/TEST/O/O_13968.jpg", "peels"),
        ("test/TEST/O/O_13969.jpg", "O 13500-13999"),
        ("train/TRAIN/O/O_499.webp", "O 0-499"),
        ("train/TRAIN/R/R_500.webp", "R 500-999"),
        ("grocery/TRAIN/O/Fruit-Apple_0012.webp", "Fruit-Apple"),
        ("facility/TEST/R/bottle.png", "bottle"),
        ("facility/TEST/R/12.png", "R 0-499"),
        ("facility/TEST/R/10400.jpg", "R 10000-10499"),
        ("facility/TEST/O/O-12600.jpg", "O 12500-12999"),
        ("facility/TEST/R/20261128101500.jpg", "R without a name"),
        ("facility/TEST/R/R.jpg", "R without a name"),
    ],
)
def test_a_name_tells_the_kind(name: str, kind: str) -> None:
    """The name before the number; ranges of numbers are known of the public collection only."""
    assert kind_of(name)[2] == kind


def test_the_worst_kind_comes_first() -> None:
    """One name in two sources is two kinds; each has its number of images and of right ones."""
    names = ["a/TEST/R/can_1.png", "a/TEST/R/can_2.png", "b/TEST/R/can_1.png", "b/TEST/O/egg_1.png"]
    kinds = by_kind(names, np.array([False, True, True, True]))
    assert (kinds[0].source, kinds[0].name, kinds[0].images, kinds[0].right) == ("a", "can", 2, 1)
    assert len(kinds) == 3
    assert "50.00 % right" in kind_lines(kinds)[0]
