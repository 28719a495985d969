"""worker.buffer: the choice of the next batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from core.cost import MAX_TOGETHER_MS
from core.lanes import BULK_SHARE
from worker.buffer import MAX_ISOLATED, Buffer
from worker.transport.delivery import Entry


def _entry(name: str, lane: str = "single", *, isolated: bool = False, cost_ms: int = 0) -> Entry:
    return cast(Entry, SimpleNamespace(key=name, lane=lane, isolated=isolated, cost_ms=cost_ms))


def _filled(*, single: int = 0, bulk: int = 0, isolated: int = 0) -> Buffer:
    buffer = Buffer()
    for number in range(single):
        buffer.add(_entry(f"s{number}"))
    for number in range(bulk):
        buffer.add(_entry(f"b{number}", "bulk"))
    for number in range(isolated):
        buffer.add(_entry(f"r{number}", isolated=True))
    return buffer


def _names(entries: list[Entry]) -> list[str]:
    return [entry.key for entry in entries]


def test_a_lone_job_goes_at_once() -> None:
    """A batch is never waited for."""
    assert _names(_filled(single=1).take(32)) == ["s0"]
    assert _names(_filled(bulk=1).take(32)) == ["b0"]


def test_a_batch_is_at_most_as_large_as_asked_for() -> None:
    """The other jobs stay for the next batch, in order."""
    buffer = _filled(single=5)
    assert _names(buffer.take(3)) == ["s0", "s1", "s2"]
    assert _names(buffer.take(3)) == ["s3", "s4"]
    assert buffer.take(3) == []


def test_bulk_uploads_keep_their_share_of_every_batch() -> None:
    """However many single images wait, bulk uploads go on, and the other way round."""
    taken = _names(_filled(single=100, bulk=100).take(32))
    assert len([name for name in taken if name[0] == "b"]) == 32 // BULK_SHARE
    assert len(taken) == 32
    assert len(_filled(single=1, bulk=100).take(32)) == 32


def test_a_lane_with_few_jobs_leaves_its_share_to_the_other() -> None:
    """A batch is full whenever enough jobs wait."""
    assert len(_filled(single=40, bulk=2).take(32)) == 32
    assert len(_filled(single=2, bulk=40).take(32)) == 32


def test_isolated_jobs_run_between_batches() -> None:
    """Jobs delivered before share no batch with others, and do not delay them for long."""
    buffer = _filled(single=2, isolated=MAX_ISOLATED + 1)
    turns = [_names(buffer.take(32)) for _ in range(4)]
    assert turns == [[f"r{number}" for number in range(MAX_ISOLATED)], ["s0", "s1"], [f"r{MAX_ISOLATED}"], []]


def test_requeued_jobs_go_first_in_their_old_order() -> None:
    """A batch that could not run is the next one again."""
    buffer = _filled(single=4)
    buffer.requeue(buffer.take(2))
    assert _names(buffer.take(4)) == ["s0", "s1", "s2", "s3"]
    assert buffer.take(4) == []


def _costing(*costs: tuple[str, int]) -> Buffer:
    """Buffer with jobs named by their lane's letter and number."""
    buffer = Buffer()
    for number, (lane, cost_ms) in enumerate(costs):
        buffer.add(_entry(f"{lane[0]}{number}", lane, cost_ms=cost_ms))
    return buffer


def _turns(buffer: Buffer) -> list[list[str]]:
    return list(iter(lambda: _names(buffer.take(32)), []))


def test_a_batch_costs_no_more_than_it_may() -> None:
    """For any number of images; a more expensive one runs by itself."""
    third = MAX_TOGETHER_MS // 3
    buffer = _costing(*[("bulk", third)] * 4, ("bulk", 10 * MAX_TOGETHER_MS), ("bulk", 0), ("bulk", 0))
    assert _turns(buffer) == [["b0", "b1", "b2"], ["b3"], ["b4"], ["b5", "b6"]]


def test_huge_images_and_others_alternate() -> None:
    """A single image waits for one huge image at most, and the huge ones always continue."""
    huge = 3 * MAX_TOGETHER_MS
    buffer = _costing(*[("bulk", huge)] * 4)
    assert _names(buffer.take(32)) == ["b0"]
    order = []
    for number in range(3):
        buffer.add(_entry(f"s{number}"))
        order += [_names(buffer.take(32)), _names(buffer.take(32))]
    assert order == [["s0"], ["b1"], ["s1"], ["b2"], ["s2"], ["b3"]]


def test_bulk_uploads_go_on_beside_expensive_single_images() -> None:
    """They get a share of the batch's cost, or the next batch."""
    buffer = _costing(*[("single", MAX_TOGETHER_MS)] * 3, ("bulk", MAX_TOGETHER_MS), ("bulk", 1))
    assert _turns(buffer) == [["s0"], ["b3"], ["s1"], ["b4"], ["s2"]]


def test_huge_isolated_images_alternate_with_batches() -> None:
    """The isolated jobs between two batches are limited by cost too."""
    buffer = _filled(single=2)
    for number in range(2):
        buffer.add(_entry(f"r{number}", isolated=True, cost_ms=2 * MAX_TOGETHER_MS))
    assert _turns(buffer) == [["r0"], ["s0", "s1"], ["r1"]]


def test_a_lane_is_full_when_enough_work_waits_in_it() -> None:
    """Then other workers get its messages; cheap jobs never fill a lane."""
    buffer = _filled(single=100)
    assert buffer.full() == set()
    buffer.add(_entry("b", "bulk", cost_ms=MAX_TOGETHER_MS))
    assert buffer.full() == {"bulk"}
    buffer.requeue(buffer.take(2))
    assert buffer.full() == {"bulk"}
    while buffer.take(32):
        pass
    assert buffer.full() == set()


def test_expensive_isolated_jobs_fill_their_lane() -> None:
    """The jobs of a killed worker are shared with other workers too."""
    buffer = Buffer()
    buffer.add(_entry("r", "bulk", isolated=True, cost_ms=MAX_TOGETHER_MS))
    assert buffer.full() == {"bulk"}
    buffer.take(32)
    assert buffer.full() == set()
