"""core.redis.keys: one table has every key, and nobody else spells one."""

from __future__ import annotations

import re

import pytest

from core.redis import keys
from tests.support.servers import REPOSITORY


def _patterns() -> list[re.Pattern[str]]:
    """Form of the keys in the table."""
    names = re.findall(r"^\| `([^`]+)` \|", keys.__doc__ or "", re.MULTILINE)
    return [re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(name))) for name in names]


def _known(key: str) -> bool:
    return any(pattern.fullmatch(key) for pattern in _patterns())


def test_every_name_is_in_the_table() -> None:
    """Constants and results of the functions."""
    constants = {value for name, value in vars(keys).items() if isinstance(value, str) and name.isupper()}
    beginnings = {keys.PREFIX, keys.LEDGER, keys.TOTALS, keys.BINDING, keys.CONTROL}
    beginnings |= {keys._JOB, keys._RATE, keys._COUNTED, keys._SAMPLED}
    beginnings |= {keys._JOB, keys._RATE, keys._COUNTED, keys._IDEMPOTENCY, keys._WORKER, keys._LEADER}
    names = {keys.job("x"), keys.idempotency("x", "y"), keys.worker("x"), keys.leader("x")}
    names |= {keys.binding("x"), keys.control_channel(0), *keys.PENDING.values()}
    names |= {name + "x:y" for name in beginnings - {keys.PREFIX, keys.BINDING, keys.CONTROL}}
    assert [key for key in (constants - beginnings) | names if not _known(key)] == []


@pytest.mark.parametrize("suffix", ["py", "lua"])
def test_no_other_module_spells_a_key(suffix: str) -> None:
    """Neither Python nor Lua; comments and messages may."""
    files = [
        file
        for room in ("api", "core", "worker", "infra")
        for file in (REPOSITORY / room).rglob(f"*.{suffix}")
    ]
    assert len(files) > 5
    spelled = {
        file.name
        for file in files
        if re.search(rf"""f?["']{keys.PREFIX}\w|["']unacked(_index|_mutex)?["']""", file.read_text("utf-8"))
    }
    assert spelled <= {"keys.py"}
