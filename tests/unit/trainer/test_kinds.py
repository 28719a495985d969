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
        ("test/TEST/O/O_13967.jpg", "peels"),
        ("train/TRAIN/O/O_499.webp", "O 0-499"),
        ("train/TRAIN/R/R_500.webp", "R 500-999"),
        ("grocery/TRAIN/O/Fruit-Apple_0012.webp", "Fruit-Apple"),
        ("facility/TEST/R/bottle.png", "bottle"),
        ("facility/TEST/R/12.png", "R 0-499"),
    ],
)
def test_a_name_tells_the_kind(name: str, kind: str) -> None:
    """The name before the number; in the public collection, the known ranges of numbers."""
    assert kind_of(name)[2] == kind


def test_the_worst_kind_comes_first() -> None:
    """One name in two sources is two kinds; each has its number of images and of right ones."""
    names = ["a/TEST/R/can_1.png", "a/TEST/R/can_2.png", "b/TEST/R/can_1.png", "b/TEST/O/egg_1.png"]
    kinds = by_kind(names, np.array([False, True, True, True]))
    assert (kinds[0].source, kinds[0].name, kinds[0].images, kinds[0].right) == ("a", "can", 2, 1)
    assert len(kinds) == 3
    assert "50.00 % right" in kind_lines(kinds)[0]
