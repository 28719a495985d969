"""Repair of Redis' append-only file: damage is found, reported and cut off, with a copy of the cut part.

Redis can cut off a damaged end by itself, but it reports that only in its log and keeps no copy, so
`redis.conf` forbids it. When Redis ends before it is ready, `mend` looks for damage. It cuts off an
unfinished write at the very end, as a power failure leaves it: no client had an answer for it. It also cuts
off a few zeros, and reports them. Any other repair loses answered writes, so a person has to request it:
`up --repair`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.local.checkout import PROGRAM
from infra.local.credentials import write_private
from infra.local.errors import DamagedFileError

_MANIFEST: Final = Path("appendonlydir", "appendonly.aof.manifest")
_SNAPSHOTS: Final = (b"VALKEY", b"REDIS")
"""First bytes of a base file that is a snapshot (RDB) rather than commands."""

_MAX_UNFINISHED: Final = 16 << 20
"""Maximum bytes of one unfinished write; more than Redis writes at a time."""

_MAX_ZEROS: Final = 64 << 10
"""Maximum zeros at the end that can be allocated blocks without content."""

_TIMESTAMPS: Final = 8 << 20
"""Bytes before the damage to search for the last time stamp; Redis writes one a second."""

_HEAD: Final = re.compile(rb"\*([1-9]\d{0,8})\r\n|#TS:\d+\r\n")
_SIZE: Final = re.compile(rb"\$(\d{1,9})\r\n")
"""First bytes of a command (or of a time stamp), and of one of its words."""

_BROKEN_HEAD: Final = re.compile(rb"\*\d*\r?|#(T(S(:\d*\r?)?)?)?")
_BROKEN_SIZE: Final = re.compile(rb"(\$\d*\r?)?")


@dataclass(frozen=True)
class Damage:
    """Damage in one of Redis' files.

    Attributes:
        file: the damaged file.
        position: bytes before the damage, all of them whole commands.
        size: bytes of the file.
        later: files that continue the damaged one and are useless without it.
        unfinished: whether the damage is an unfinished write at the very end of all files.
        zeros: zero bytes at the end, counted up to one more than `_MAX_ZEROS`.
    """

    file: Path
    position: int
    size: int
    later: tuple[Path, ...]
    unfinished: bool
    zeros: int

    def loss(self) -> str:
        """Return the lost bytes of the file as a sentence without its full stop."""
        since = _time_before(self.file, self.position)
        when = f", all writes after {since}" if since else ""
        rest = self.size - self.position + sum(path.stat().st_size for path in self.later)
        return (
            f"Redis' file {self.file} is damaged at byte {self.position:,} of {self.size:,}: "
            f"the {rest:,} bytes from there on are unusable{when}"
        )


def mend(folder: Path, server: str) -> str | None:
    """Cut an unfinished write off the end of Redis' files; return a report, None without damage.

    Args:
        folder: the folder of Redis' data.
        server: path of the Redis server, which also checks files.

    Raises:
        DamagedFileError: there is other damage; no file has been changed.
    """
    damage = _find_damage(folder, server)
    if damage is None:
        return None
    if not damage.unfinished:
        raise DamagedFileError(
            f"{damage.loss()}. Nothing has been changed. Put a backup of the data folder in its place, "
            f"or run `{PROGRAM} up --repair`: it cuts off the damaged end and keeps a copy."
        )
    rest = damage.size - damage.position
    kept = _cut(folder, damage)
    answered = (
        f"The last {damage.zeros:,} of them are zeros: unless the power failed, the disk has lost data "
        "there, which may include accepted or settled jobs."
        if damage.zeros
        else "No client had an answer for it."
    )
    return (
        f"Redis' file {damage.file} ended with an unfinished write of {rest:,} bytes, as after a power "
        f"failure. {answered} It was cut off and is kept in {kept}."
    )


def repair(folder: Path, server: str) -> str:
    """Cut off the unusable end of Redis' files; return a report.

    Raises:
        DamagedFileError: the damage cannot be cut off.
    """
    damage = _find_damage(folder, server)
    if damage is None:
        return f"Redis' files in {folder} have no damage: there is nothing to repair."
    loss = damage.loss()
    kept = _cut(folder, damage)
    return (
        f"{loss}. The unusable part was cut off and is kept in {kept}. "
        "Jobs accepted in it are unknown now; jobs settled in it are pending again."
    )


def _find_damage(folder: Path, server: str) -> Damage | None:
    """Return the first damage in the files of the manifest, in their order."""
    files = _files(folder)
    for number, file in enumerate(files):
        position = _check(file, server)
        if position is not None:
            later, size = tuple(files[number + 1 :]), file.stat().st_size
            zeros = _count_zeros(file, position)
            unfinished = not later and zeros <= _MAX_ZEROS and _is_unfinished(file, position, size - zeros)
            return Damage(file, position, size, later, unfinished, zeros)
    return None


def _files(folder: Path) -> list[Path]:
    """Return base and incremental files in the order in which Redis reads them."""
    manifest = folder / _MANIFEST
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []  # Redis reports this in its log.
    entries = [re.fullmatch(r"file (\S+) seq \d+ type ([bi])\b.*", line) for line in lines]
    return [manifest.with_name(entry[1]) for entry in entries if entry]


def _check(file: Path, server: str) -> int | None:
    """Return the number of intact bytes of the file; None without damage.

    Raises:
        DamagedFileError: the file is missing, or a damaged snapshot, which is useless.
    """
    snapshot = _is_snapshot(file)
    # The server checks files when it runs under one of these names.
    name = "valkey-check-rdb" if snapshot else "valkey-check-aof"
    if "valkey" not in Path(server).name:
        name = name.replace("valkey", "redis")
    check = subprocess.run(  # noqa: S603 - our own command
        [name, str(file)],
        executable=server,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C belongs to the supervisor.
        check=False,
    )
    if check.returncode == 0:
        return None
    good = re.search(rb"ok_up_to=(\d+)", check.stdout)
    if snapshot or good is None:
        raise DamagedFileError(
            f"Redis' file {file} is {'damaged' if file.exists() else 'missing'}, and nothing can repair it. "
            "Nothing has been changed. Put a backup of the data folder in its place."
        )
    return int(good[1])


def _is_snapshot(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(6).startswith(_SNAPSHOTS)
    except OSError:
        return False


def _count_zeros(file: Path, position: int) -> int:
    """Return the number of zeros at the end of the file after `position`, at most `_MAX_ZEROS` + 1."""
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(position, size - _MAX_ZEROS - 1))
        end = opened.read()
    return len(end) - len(end.rstrip(b"\0"))


def _is_unfinished(file: Path, position: int, end: int) -> bool:
    """Return whether the bytes from `position` to `end` are the first part of a single write."""
    if end - position > _MAX_UNFINISHED:
        return False
    with file.open("rb") as opened:
        opened.seek(position)
        return _runs_out(opened.read(end - position))


def _runs_out(data: bytes) -> bool:
    """Return whether this is the first part of a single write: of one command, or of one transaction.

    Redis' own check takes everything after a MULTI with a damaged EXEC for one transaction. But whole
    transactions can follow, and their clients had answers.
    """
    position, inside = 0, False
    while position < len(data):
        head = _HEAD.match(data, position)
        if head is None:
            return _BROKEN_HEAD.fullmatch(data, position) is not None
        position = head.end()
        if head[1] is None:
            continue
        words: list[bytes] = []
        for _ in range(int(head[1])):
            size = _SIZE.match(data, position)
            if size is None:
                return words[:1] != [b"EXEC"] and _BROKEN_SIZE.fullmatch(data, position) is not None
            end = size.end() + int(size[1])
            if end + 2 > len(data):
                # A damaged length reaches over intact commands.
                return re.search(rb"\r\n(\*\d+\r\n\$\d+\r\n|\Z)", data[size.end() :]) is None
            words.append(data[size.end() : end])
            position = end + 2
            if data[end:position] != b"\r\n":
                return False
        # Only MULTI, at the start, and EXEC have a single word, even if their names are damaged.
        if (len(words) == 1) is inside or (words[0] == b"MULTI") is inside or words[0] == b"EXEC":
            return False
        inside = True
    return True


def _time_before(file: Path, position: int) -> str | None:
    """Return the last time stamp before `position`; None in files of older versions."""
    with file.open("rb") as opened:
        opened.seek(max(0, position - _TIMESTAMPS))
        stamps = re.findall(rb"#TS:(\d+)\r\n", opened.read(min(position, _TIMESTAMPS)))
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(int(stamps[-1]))) if stamps else None


def _cut(folder: Path, damage: Damage) -> Path:
    """Move the unusable part into a folder of its own; return that folder."""
    (folder / "damaged").mkdir(mode=0o700, exist_ok=True)
    now = time.strftime("%Y%m%d-%H%M%S-", time.gmtime())
    kept = Path(tempfile.mkdtemp(prefix=now, dir=folder / "damaged"))
    copy = kept / f"{damage.file.name}.from-{damage.position}"
    with damage.file.open("r+b") as file, copy.open("wb") as end:
        file.seek(damage.position)
        shutil.copyfileobj(file, end, 1 << 20)
        end.flush()
        os.fsync(end.fileno())
        for path in damage.later:
            shutil.copy2(path, kept)
        if damage.later:
            _strike(folder / _MANIFEST, damage.later)
        file.truncate(damage.position)
        os.fsync(file.fileno())
    for path in damage.later:
        path.unlink()
    return kept


def _strike(manifest: Path, files: tuple[Path, ...]) -> None:
    """Remove files from the manifest."""
    names = {file.name for file in files}
    lines = manifest.read_text(encoding="utf-8").splitlines(keepends=True)
    write_private(manifest, "".join(line for line in lines if line.split(" ")[1] not in names))
