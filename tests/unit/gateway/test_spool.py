"""The spool loses and doubles nothing, whatever becomes of the process, the power and the disk."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.support.disks import PowerCut, cuttable_disk, fill, small_disk
from wastestream.gateway.clock import Stamp, stamp
from wastestream.gateway.counts import Fate, total
from wastestream.gateway.errors import SpoolError
from wastestream.gateway.frames import Frame
from wastestream.gateway.spool import Limits, Spool

WIDE = Limits(10**9, 86_400.0)


def frame(camera: str = "belt-1", *, age: float = 0.0, size: int = 1000) -> Frame:
    """Return a frame captured some seconds ago."""
    return Frame(uuid.uuid4().hex, camera, stamp(time.time() - age), bytes(size))


def ids(frames: list[Frame]) -> list[str]:
    """Return their ids."""
    return [each.id for each in frames]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a spool."""
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    """An empty spool."""
    spool = Spool(folder, WIDE)
    yield spool
    spool.close()


@pytest.fixture
def disk() -> Iterator[PowerCut]:
    """A disk whose power can be cut."""
    with cuttable_disk() as disk:
        yield disk


def test_a_frame_waits_until_it_is_settled(spool: Spool) -> None:
    """A taken frame is nobody else's; put back, it comes again; settled, it is gone."""
    first, second = frame(), frame()
    spool.add([first, second])
    taken = spool.take_live(1, 10**6)
    assert ids(taken) == [first.id]
    assert taken[0] == first
    assert ids(spool.take_live(9, 10**6)) == [second.id]
    spool.settle({}, taken)
    assert ids(spool.take_live(9, 10**6)) == [first.id]
    spool.settle({first.id: Fate.ACCEPTED, second.id: Fate.REFUSED}, [first, second])
    assert spool.take_live(9, 10**6) == []
    sums = total(spool.rows())
    assert sums == {"sampled": 2, "accepted": 1, "spooled": 0, "skipped": 0, "dropped": 0, "refused": 1}


def test_live_frames_and_the_backlog_are_apart(spool: Spool) -> None:
    """Live frames come oldest first; those of the backlog in the order that is asked for."""
    older, old, new, newer = frame(age=200), frame(age=100), frame(age=2), frame(age=1)
    spool.add([old, newer, older, new])
    assert ids(spool.take_live(9, 10**6)) == [new.id, newer.id]
    assert ids(spool.take_backlog(1, 10**6, "newest")) == [old.id]
    assert ids(spool.take_backlog(9, 10**6, "newest")) == [older.id]
    assert spool.take_backlog(9, 10**6, "oldest") == []


def test_a_call_is_bounded_in_frames_and_bytes(spool: Spool) -> None:
    """At most so many frames and bytes are taken, but one at least; frames of some cameras stay."""
    spool.add([frame(size=600), frame(size=600), frame("belt-2", size=600)])
    assert len(spool.take_live(2, 10**6, ["belt-2"])) == 2
    assert len(spool.take_live(9, 100)) == 1


def test_beyond_its_bounds_the_oldest_go_first(folder: Path) -> None:
    """Frames that are dropped for want of room are counted, and are the oldest."""
    spool = Spool(folder, Limits(2500, 86_400))
    oldest, *others = [frame(age=age) for age in (300, 200, 100)]
    spool.add([others[1], oldest])
    spool.add([others[0]])
    assert ids(spool.take_backlog(9, 10**6, "oldest")) == ids(others)
    assert spool.bytes == 2000
    rows = spool.rows()  # two if an hour has just begun
    assert (total(rows)["dropped"], all(row.balanced for row in rows)) == (1, True)
    spool.close()


def test_frames_that_waited_for_too_long_are_dropped(folder: Path) -> None:
    """Time counts by the machine's start: a clock that was set makes no frame old, nor does an old file."""
    spool = Spool(folder, Limits(10**9, 50))
    now = stamp()

    def kept(kept: Stamp) -> Frame:
        return Frame(uuid.uuid4().hex, "belt-1", kept, b"1", kept)

    young = [
        kept(stamp(now.wall - 40)),
        kept(Stamp(0.0, now.boot, now.elapsed)),  # The clock was never set.
        kept(Stamp(5.0, "another", 3.0)),  # Nor was it before the machine was started again.
        frame(age=1000),  # of a file
    ]
    old = [kept(stamp(now.wall - 60)), kept(Stamp(now.wall - 60, "another", 3.0))]
    spool.add([*young, *old])
    spool.tidy()
    left = spool.take_live(99, 10**6) + spool.take_backlog(99, 10**6, "oldest")
    assert sorted(ids(left)) == sorted(ids(young))
    assert total(spool.rows())["dropped"] == 2
    spool.close()


def test_two_gateways_do_not_share_a_spool(spool: Spool, folder: Path) -> None:
    """The second one is told so."""
    with pytest.raises(SpoolError, match="Another gateway uses"):
        Spool(folder, WIDE)
    spool.add([frame()])


def test_a_spool_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    """The sentence has the folder and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"cannot be used: .* Give the gateway a folder"):
        Spool(tmp_path / "file", WIDE)


def test_a_damaged_frame_is_dropped_and_counted(spool: Spool, folder: Path) -> None:
    """Bytes that are not those that were written are never sent."""
    damaged, whole = frame(), frame()
    spool.add([damaged, whole])
    path = folder / "frames" / f"{damaged.id}.frame"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert ids(spool.take_live(9, 10**6)) == [whole.id]
    assert total(spool.rows())["dropped"] == 1


def test_a_frame_knows_how_far_its_file_was_read(folder: Path, tmp_path: Path) -> None:
    """After a stop between the files of frames and the index; else the gateway would sample them again."""
    Spool(folder, WIDE).close()
    before = shutil.copytree(folder, tmp_path / "before")
    spool = Spool(folder, WIDE)
    marks = [f"version {number}" for number in range(1, 21)]
    spool.add([replace(frame(), file=("/in/a.mkv", mark)) for mark in marks])
    spool.close()
    for file in folder.glob("index.db*"):
        file.unlink()
    shutil.copy(before / "index.db", folder)
    spool = Spool(folder, WIDE)
    assert spool.mark_of("belt-1", "/in/a.mkv") == marks[-1]
    assert total(spool.rows())["sampled"] == total(spool.rows())["spooled"] == len(marks)
    spool.close()


def test_a_damaged_index_is_made_again(folder: Path) -> None:
    """The files of the frames are enough."""
    spool = Spool(folder, WIDE)
    kept = frame()
    spool.add([kept])
    spool.close()
    (folder / "index.db").write_bytes(b"no database at all" * 500)
    spool = Spool(folder, WIDE)
    assert spool.take_live(9, 10**6) == [kept]
    assert total(spool.rows())["sampled"] == 1
    assert list(folder.glob("index.db.damaged-*"))
    spool.close()


def test_files_that_were_read_are_remembered_with_their_frames(folder: Path) -> None:
    """The mark of a file is on disk with its frame, until the file is gone."""
    spool = Spool(folder, WIDE)
    spool.add([replace(frame(), file=(path, mark)) for path, mark in (("/a", "1"), ("/b", "2"))])
    spool.close()
    spool = Spool(folder, WIDE)
    assert spool.files("belt-1") == {"/a": "1", "/b": "2"}
    spool.keep_files("belt-1", {"/b"})
    assert spool.mark_of("belt-1", "/a") is None
    spool.close()


def test_a_full_disk_loses_nothing_that_was_safe() -> None:
    """New frames wait in memory, and those on disk can still be settled; later everything is on disk."""
    with small_disk("8m") as mounted:
        spool = Spool(mounted / "spool", WIDE)
        safe = [frame(size=50_000) for _ in range(20)]
        spool.add(safe)
        filler = fill(mounted)
        late = [frame(size=200_000) for _ in range(3)]
        spool.add(late)
        assert "No space left" in (spool.trouble or "")
        taken = spool.take_live(20, 10**8)
        assert set(ids(late)) < set(ids(taken))
        spool.settle({taken[0].id: Fate.ACCEPTED, taken[-1].id: Fate.ACCEPTED}, taken)
        sums = total(spool.rows())
        assert (sums["sampled"], sums["accepted"], sums["spooled"]) == (23, 2, 21)
        filler.unlink()
        spool.tidy()
        assert spool.trouble is None
        spool.close()
        spool = Spool(mounted / "spool", WIDE)
        assert len(spool.take_live(99, 10**8)) == 21
        assert total(spool.rows()) == sums
        spool.close()


def test_a_read_only_disk_loses_nothing_that_was_safe(disk: PowerCut) -> None:
    """New frames are sent from memory; what was safe is there when the disk can be written again."""
    spool = Spool(disk.folder / "spool", WIDE)
    safe, late = frame(), frame()
    spool.add([safe])
    disk.fail()
    spool.add([late])
    assert "Read-only" in (spool.trouble or "")
    taken = spool.take_live(9, 10**6)
    assert ids(taken) == [late.id, safe.id]
    spool.settle({late.id: Fate.ACCEPTED}, taken)
    assert ids(spool.take_live(9, 10**6)) == [safe.id]
    spool.close()
    disk.restore()
    spool = Spool(disk.folder / "spool", WIDE)
    assert ids(spool.take_live(9, 10**6)) == [safe.id]
    spool.close()


def test_a_killed_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """SIGKILL at any moment."""
    _cut_again_and_again(tmp_path / "spool", lambda process: process.kill(), rounds=3)


def test_a_power_cut_loses_and_doubles_nothing(disk: PowerCut) -> None:
    """The file system writes nothing any more, in the middle of the work, and is mounted again."""

    def cut(process: subprocess.Popen[str]) -> None:
        disk.cut()
        process.kill()
        process.wait()
        disk.restore()

    _cut_again_and_again(disk.folder / "spool", cut, rounds=3)


def _cut_again_and_again(folder: Path, cut: Callable[[subprocess.Popen[str]], None], *, rounds: int) -> None:
    """Let a process work, cut it off, and compare the spool with what the process had told until then."""
    waiting, settled = set[str](), 0
    for number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.spool_writer", str(folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [line.split() for line in islice(process.stdout, 30 + 7 * number)]
        cut(process)
        # Told while the power failed, perhaps of what a disk without power said: it may be so or not.
        late = [line.split() for line in process.stdout.read().splitlines(keepends=True) if line[-1] == "\n"]
        process.wait()
        process.stdout.close()
        assert process.returncode in {0, -signal.SIGKILL}
        safe = waiting | {name for word, name in lines if word == "safe"}
        accepted = {name for word, name in lines if word == "accepted"}
        perhaps = {name for word, name in late if word == "accepted"}
        waiting, sums = _look(folder)
        assert not accepted & waiting
        # The process may have been stopped after a step and before it told of it: one frame was settled then.
        assert len(safe - accepted - perhaps - waiting) <= 1
        assert len(accepted) <= sums["accepted"] - settled <= len(accepted | perhaps) + 1
        assert (sums["sampled"], sums["dropped"]) == (sums["accepted"] + len(waiting), 0)
        settled = sums["accepted"]


def _look(folder: Path) -> tuple[set[str], dict[str, int]]:
    """Return the frames in a spool, none of them twice, and its counts."""
    spool = Spool(folder, WIDE)
    taken = ids(spool.take_live(10**6, 10**9)) + ids(spool.take_backlog(10**6, 10**9, "oldest"))
    rows = spool.rows()
    spool.close()
    assert len(taken) == len(set(taken))
    assert all(row.balanced for row in rows)
    return set(taken), total(rows)
