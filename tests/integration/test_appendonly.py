"""Damage to Redis' append-only file: found, told, cut off with a copy, never silently."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from infra.local.appendonly import mend, repair
from infra.local.errors import DamagedFileError
from infra.local.programs import REDIS
from tests.support.servers import Server, free_port, program, wait_until

_COUNT = 40
_WRITE = "redis.call('set', KEYS[1], ARGV[1]); return redis.call('incr', 'count')"


class Files:
    """A Redis, configured as `up` does, and its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        options = ["--port", str(self.port), "--dir", str(folder), "--save", "", "--appendonly", "yes"]
        options += ["--appendfsync", "always", "--aof-load-truncated", "no", "--aof-timestamp-enabled", "yes"]
        self.server = Server([program(*REDIS), *options], folder / "log", port=self.port)

    @property
    def last(self) -> Path:
        """The file that Redis appends to."""
        return max((self.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.name)

    def run(self, use: Callable[[redis.Redis], object]) -> None:
        """Start Redis, use it, and kill it."""
        self.server.start()
        with redis.Redis(port=self.port) as client:
            wait_until(lambda: _has_read(client), "Redis to have read its files")
            use(client)
        self.server.kill()

    def count(self) -> int:
        """Return how many transactions Redis finds in its files."""
        counts: list[int] = []
        self.run(lambda client: counts.append(int(client.get("count") or 0)))
        return counts[0]

    def mend(self) -> str | None:
        """Mend the files as the supervisor does."""
        return mend(self.folder, program(*REDIS))

    def kept(self) -> bytes:
        """Return the bytes that were cut off."""
        (file,) = (self.folder / "damaged").glob("*/*.from-*")
        return file.read_bytes()


def _has_read(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.BusyLoadingError:
        return False


def _write(client: redis.Redis) -> None:
    for number in range(_COUNT):
        client.eval(_WRITE, 1, f"key-{number}", "x" * 50)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Redis that did some transactions and was killed."""
    files = Files(tmp_path_factory.mktemp("original"))
    files.run(_write)
    return files.folder


@pytest.fixture
def files(original: Path, tmp_path: Path) -> Iterator[Files]:
    """A copy of those files, to damage."""
    shutil.copytree(original / "appendonlydir", tmp_path / "appendonlydir")
    files = Files(tmp_path)
    yield files
    files.server.stop()


def test_files_in_order_are_left_alone(files: Files) -> None:
    """Nothing is wrong, nothing is said, nothing is changed; `repair` says so."""
    before = files.last.read_bytes()
    assert files.mend() is None
    assert "have no damage" in repair(files.folder, program(*REDIS))
    assert files.last.read_bytes() == before
    assert not (files.folder / "damaged").exists()


@pytest.mark.parametrize("cut", [1, 30, 60, 95])
def test_an_unfinished_write_is_cut_off_and_kept(files: Files, cut: int) -> None:
    """A last transaction cut anywhere is removed as a whole; its bytes are kept and reported."""
    whole = files.last.read_bytes()
    files.last.write_bytes(whole[:-cut])
    said = files.mend() or ""
    assert re.search(
        r"unfinished write of \d+ bytes.*No client had an answer for it.*cut off and is kept in .*/damaged/",
        said,
    )
    assert files.last.read_bytes() + files.kept() == whole[:-cut]
    assert files.mend() is None
    assert files.count() == _COUNT - 1


def test_blocks_that_were_never_filled_are_cut_off(files: Files) -> None:
    """A few zeros at the end, as some file systems leave them when the power fails; they may be a loss."""
    with files.last.open("ab") as file:
        file.write(bytes(5_000))
    said = files.mend() or ""
    assert "unfinished write of 5,000 bytes" in said
    assert "The last 5,000 of them are zeros" in said
    assert "No client had an answer" not in said
    assert files.count() == _COUNT


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_more_zeros_than_blocks_of_one_write_wait_for_a_person(files: Files, share: float) -> None:
    """Zeros over transactions, or after them, that no unfinished write can have left."""
    whole = files.last.read_bytes()
    data = whole[: int(len(whole) * share)] + bytes((64 << 10) + 1)
    files.last.write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"Nothing has been changed.*`./wastestream up --repair`"):
        files.mend()
    assert files.last.read_bytes() == data
    files.last.write_bytes(data[:-1])
    assert "The last 65,536 of them are zeros" in (files.mend() or "")


def _overwritten(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(4) + data[len(data) // 2 + 4 :]


def _longer(data: bytes) -> bytes:
    middle = data.index(b"$50\r\n", len(data) // 2)
    return data[:middle] + b"$50000\r\n" + data[middle + 5 :]


@pytest.mark.parametrize("damaged", [_overwritten, _longer])
def test_damage_in_the_middle_waits_for_a_person(files: Files, damaged: Callable[[bytes], bytes]) -> None:
    """It is told with its place, size and time, and nothing is changed; `repair` keeps what it cuts off."""
    data = damaged(files.last.read_bytes())
    files.last.write_bytes(data)
    told = (
        r"damaged at byte [\d,]+ of [\d,]+: the [\d,]+ bytes from there on are unusable, "
        r"all writes after [-\d]+ [:\d]+ UTC\. "
    )
    with pytest.raises(
        DamagedFileError, match=told + "Nothing has been changed.*`./wastestream up --repair`"
    ):
        files.mend()
    assert files.last.read_bytes() == data
    said = repair(files.folder, program(*REDIS))
    assert re.search(told + "The unusable part was cut off and is kept in .*/damaged/", said)
    assert files.last.read_bytes() + files.kept() == data
    assert 0 < files.count() < _COUNT


def _flipped(data: bytes, what: bytes, after: int) -> bytes:
    at = data.index(what, after) + what.index(what.strip(b"\r\n$*")[:1])
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("what", [b"EXEC", b"MULTI", b"$4\r\n", b"*1\r\n", b"*3\r\n", b"\r\nincr"])
@pytest.mark.parametrize("quarter", [1, 3])
def test_whole_transactions_are_never_an_unfinished_write(files: Files, what: bytes, quarter: int) -> None:
    """One bit goes over among answered transactions: nothing is cut off that nobody asked to cut off."""
    whole = files.last.read_bytes()
    data = _flipped(whole, what, len(whole) * quarter // 4)
    files.last.write_bytes(data)
    if what == b"\r\nincr":
        assert files.mend() is None  # It is a whole command still, and Redis names the one it does not know.
    else:
        with pytest.raises(DamagedFileError, match=r"Nothing has been changed.*`./wastestream up --repair`"):
            files.mend()
    assert files.last.read_bytes() == data
    assert not (files.folder / "damaged").exists()


def test_a_bit_of_the_last_transaction_is_no_unfinished_write(files: Files) -> None:
    """Whichever byte of the last answered transaction is damaged: it is kept until a person decides."""
    whole = files.last.read_bytes()
    for at in range(whole.rindex(b"*1\r\n$5\r\nMULTI"), len(whole)):
        data = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        files.last.write_bytes(data)
        with suppress(DamagedFileError):
            assert files.mend() is None
        assert files.last.read_bytes() == data


def test_every_beginning_of_a_write_is_an_unfinished_one(files: Files) -> None:
    """Wherever the last transaction breaks off, a note of the time in it or not, nobody is asked."""
    whole = files.last.read_bytes()
    start = whole.rindex(b"*1\r\n$5\r\nMULTI")
    write = whole[start:].replace(b"*3\r\n", b"#TS:1700000000\r\n*3\r\n")
    for size in range(1, len(write)):
        files.last.write_bytes(whole[:start] + write[:size])
        assert f"unfinished write of {size} bytes" in (files.mend() or "")
        assert files.last.read_bytes() == whole[:start]


def test_files_that_continue_a_damaged_one_go_with_it(files: Files) -> None:
    """Writes after the damage are unusable without those before it, in any of the files."""
    first = files.last
    second = first.with_name("appendonly.aof.2.incr.aof")
    second.write_bytes(b"*2\r\n$4\r\nINCR\r\n$5\r\ncount\r\n")
    with first.with_name("appendonly.aof.manifest").open("a") as manifest:
        manifest.write(f"file {second.name} seq 2 type i\n")
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match="Nothing has been changed"):
        files.mend()
    repair(files.folder, program(*REDIS))
    assert not second.exists()
    assert [path.name for path in (files.folder / "damaged").glob("*/*.incr.aof")] == [second.name]
    assert files.count() == _COUNT - 1


def test_a_damaged_snapshot_cannot_be_repaired(files: Files) -> None:
    """A damaged file of a rewrite is unusable as a whole; the error says so and asks for a backup."""
    (base,) = files.last.parent.glob("*.base.rdb")
    data = base.read_bytes()
    base.write_bytes(data[:-20])
    for way in (files.mend, lambda: repair(files.folder, program(*REDIS))):
        with pytest.raises(DamagedFileError, match=r"damaged, and nothing can repair it.*backup"):
            way()
    base.unlink()
    with pytest.raises(DamagedFileError, match="missing, and nothing can repair it"):
        files.mend()


@pytest.mark.parametrize("cut", [0, 10])
def test_the_file_of_an_older_redis_is_taken_over(tmp_path: Path, cut: int) -> None:
    """Redis 6 had one file; it becomes the first of several, and its end is mended like theirs."""
    files = Files(tmp_path)
    old = b"*2\r\n$4\r\nINCR\r\n$5\r\ncount\r\n" * _COUNT
    (tmp_path / "appendonly.aof").write_bytes(old[: len(old) - cut])
    if cut:
        with suppress(AssertionError):
            files.server.start()
        assert files.server.process is not None
        assert files.server.process.wait(timeout=10) == 1  # when it has read the file
        assert "unfinished write" in (files.mend() or "")
    assert files.count() == _COUNT - (1 if cut else 0)
