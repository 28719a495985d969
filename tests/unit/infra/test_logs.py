"""Log files that stay small, and their ends."""

from __future__ import annotations

from pathlib import Path

from infra.local.logs import rotate, tail


def test_a_large_log_is_cut_and_its_text_kept_once(tmp_path: Path) -> None:
    """Past the limit the text moves to NAME.log.1; a process that appends goes on in the same file."""
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as process:
        process.write(b"x" * 100)
        rotate(log, limit=99)
        process.write(b"new\n")
    assert log.read_text() == "new\n"
    assert (tmp_path / "a.log.1").read_text() == "x" * 100


def test_a_small_or_missing_log_is_left_alone(tmp_path: Path) -> None:
    """Nothing is moved below the limit."""
    rotate(tmp_path / "none.log")
    (tmp_path / "a.log").write_text("few")
    rotate(tmp_path / "a.log", limit=99)
    assert [file.name for file in tmp_path.iterdir()] == ["a.log"]


def test_the_end_of_a_log_begins_at_the_last_start(tmp_path: Path) -> None:
    """Lines of an earlier life are not shown, nor bytes that are no text a reason to fail."""
    log = tmp_path / "a.log"
    log.write_bytes(b"old\none\n\xfftwo\n")
    assert tail(log, start=4) == ["one", "\ufffdtwo"]
    assert tail(log, lines=1) == ["\ufffdtwo"]
    assert tail(tmp_path / "none.log") == []
