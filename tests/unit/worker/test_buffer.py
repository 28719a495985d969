"""worker.buffer: which jobs go into the next batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from core.cost import MAX_TOGETHER_MS
from core.lanes import BULK_SHARE
from worker.buffer import ALONE_TURN, Buffer
from worker.transport.delivery import Entry


def _entry(name: str, lane: str = "single", *, repeated: bool = False, cost_ms: int = 0) -> Entry:
    return cast(Entry, SimpleNamespace(key=name, lane=lane, repeated=repeated, cost_ms=cost_ms))


def _filled(*, single: int = 0, bulk: int = 0, repeated: int = 0) -> Buffer:
    lanes = Buffer()
    for number in range(single):
        lanes.add(_entry(f"s{number}"))
    for number in range(bulk):
        lanes.add(_entry(f"b{number}", "bulk"))
    for number in range(repeated):
        lanes.add(_entry(f"r{number}", repeated=True))
    return lanes


def _names(entries: list[Entry]) -> list[str]:
    return [entry.key for entry in entries]


def test_a_lone_job_goes_at_once() -> None:
    """A batch is never waited for."""
    assert _names(_filled(single=1).take(32)) == ["s0"]
    assert _names(_filled(bulk=1).take(32)) == ["b0"]


def test_a_batch_is_at_most_as_large_as_asked_for() -> None:
    """What is left stays for the next, in order."""
    lanes = _filled(single=5)
    assert _names(lanes.take(3)) == ["s0", "s1", "s2"]
    assert _names(lanes.take(3)) == ["s3", "s4"]
    assert lanes.take(3) == []


def test_bulk_uploads_keep_their_share_of_every_batch() -> None:
    """However many single images wait, bulk uploads go on, and the other way round."""
    taken = _names(_filled(single=100, bulk=100).take(32))
    assert len([name for name in taken if name[0] == "b"]) == 32 // BULK_SHARE
    assert len(taken) == 32
    assert len(_filled(single=1, bulk=100).take(32)) == 32


def test_places_that_one_kind_leaves_go_to_the_other() -> None:
    """A batch is full whenever enough jobs wait."""
    assert len(_filled(single=40, bulk=2).take(32)) == 32
    assert len(_filled(single=2, bulk=40).take(32)) == 32


def test_repeated_jobs_run_alone_and_in_turn() -> None:
    """Jobs delivered before share no batch with others, and do not hold up the rest."""
    lanes = _filled(single=2, repeated=ALONE_TURN + 1)
    turns = [_names(lanes.take(32)) for _ in range(4)]
    assert turns == [[f"r{number}" for number in range(ALONE_TURN)], ["s0", "s1"], [f"r{ALONE_TURN}"], []]


def test_jobs_put_back_go_first_in_their_old_order() -> None:
    """A batch that could not run is the next one again."""
    lanes = _filled(single=4)
    lanes.put_back(lanes.take(2))
    assert _names(lanes.take(4)) == ["s0", "s1", "s2", "s3"]
    assert lanes.take(4) == []


def _costing(*costs: tuple[str, int]) -> Buffer:
    """Buffer with jobs named by their lane's letter and number."""
    lanes = Buffer()
    for number, (lane, cost_ms) in enumerate(costs):
        lanes.add(_entry(f"{lane[0]}{number}", lane, cost_ms=cost_ms))
    return lanes


def _turns(lanes: Buffer) -> list[list[str]]:
    return list(iter(lambda: _names(lanes.take(32)), []))


def test_a_batch_costs_no_more_than_it_may() -> None:
    """Whatever the number of its images; a dearer one runs by itself."""
    third = MAX_TOGETHER_MS // 3
    lanes = _costing(*[("bulk", third)] * 4, ("bulk", 10 * MAX_TOGETHER_MS), ("bulk", 0), ("bulk", 0))
    assert _turns(lanes) == [["b0", "b1", "b2"], ["b3"], ["b4"], ["b5", "b6"]]


def test_huge_images_and_others_take_turns() -> None:
    """A single image waits for one huge one at most, and the huge ones go on whatever comes."""
    huge = 3 * MAX_TOGETHER_MS
    lanes = _costing(*[("bulk", huge)] * 4)
    assert _names(lanes.take(32)) == ["b0"]
    order = []
    for number in range(3):
        lanes.add(_entry(f"s{number}"))
        order += [_names(lanes.take(32)), _names(lanes.take(32))]
    assert order == [["s0"], ["b1"], ["s1"], ["b2"], ["s2"], ["b3"]]


def test_bulk_uploads_go_on_beside_dear_single_images() -> None:
    """Of what a batch may cost they get some, or the next batch."""
    lanes = _costing(*[("single", MAX_TOGETHER_MS)] * 3, ("bulk", MAX_TOGETHER_MS), ("bulk", 1))
    assert _turns(lanes) == [["s0"], ["b3"], ["s1"], ["b4"], ["s2"]]


def test_huge_images_that_run_alone_leave_turns_to_others() -> None:
    """A turn of jobs delivered before is bounded by cost too."""
    lanes = _filled(single=2)
    for number in range(2):
        lanes.add(_entry(f"r{number}", repeated=True, cost_ms=2 * MAX_TOGETHER_MS))
    assert _turns(lanes) == [["r0"], ["s0", "s1"], ["r1"]]


def test_a_lane_is_full_when_enough_work_waits_in_it() -> None:
    """Then its messages are left to other workers; cheap jobs never fill one."""
    lanes = _filled(single=100)
    assert lanes.full() == set()
    lanes.add(_entry("b", "bulk", cost_ms=MAX_TOGETHER_MS))
    assert lanes.full() == {"bulk"}
    lanes.put_back(lanes.take(2))
    assert lanes.full() == {"bulk"}
    while lanes.take(32):
        pass
    assert lanes.full() == set()


def test_dear_jobs_that_were_delivered_before_fill_their_lane() -> None:
    """Those of a killed worker are left to the other workers too."""
    lanes = Buffer()
    lanes.add(_entry("r", "bulk", repeated=True, cost_ms=MAX_TOGETHER_MS))
    assert lanes.full() == {"bulk"}
    lanes.take(32)
    assert lanes.full() == set()
