"""core.cameras: which names cameras may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cameras import MAX_LENGTH, camera_id, camera_id_in_header, camera_pattern, matches
from core.errors import CameraIdError, CameraPatternError
from core.ids import new_job_id
from core.jobs import Job
from core.shards import contents, pack


@pytest.mark.parametrize(
    "name",
    [
        "belt-1",
        "00:1A:2B:3C:4D:5E",
        "Halle 2, B\u00e4ndchen (links)",
        "ipc@192.168.1.20",
        "\u540d\u524d",
        "7",
    ],
)
def test_names_as_cameras_have_them_are_ids(name: str) -> None:
    """MAC addresses, spaces, umlauts, other scripts; also in a header, raw or percent-encoded."""
    assert camera_id(name) == name
    assert camera_id_in_header(name.encode().decode("latin-1")) == name
    escaped = "".join(f"%{byte:02x}" for byte in name.encode())
    assert camera_id_in_header(escaped) == name


def test_one_name_has_one_form() -> None:
    """Composed (NFC), without spaces around; Latin-1 in a header is understood where it is no UTF-8."""
    assert camera_id(" B\u0061\u0308nd ") == "B\u00e4nd"
    assert camera_id_in_header("B\u00e4nd") == "B\u00e4nd"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("a/b", "it holds '/'"),
        ("a+b", r"it holds '\+'"),
        ("a#b", "it holds '#'"),
        ('a"b', "it holds '\"'"),
        ("a\\b", "it holds "),
        ("a\nb", r"it holds U\+000A"),
        ("a\u202eb", r"it holds U\+202E"),
        ("a\u00a0b", r"it holds U\+00A0"),
        ("\u3164", r"it holds U\+3164"),
        ("a\u034f", r"it holds U\+034F"),
        ("100%", "it holds '%'"),
        ("..", "does not begin with a letter"),
        ("_shared", "does not begin with a letter"),
        ("=1", "it holds '='"),
        ("@cmd", "does not begin with a letter"),
        ("\u0308a", "does not begin with a letter"),
        ("x" * 65, "it has 65 bytes"),
        ("\u00e4" * 33, "it has 66 bytes"),
    ],
)
def test_what_is_no_id_is_named(text: str, reason: str) -> None:
    """The sentence names the invalid character and the valid ones."""
    with pytest.raises(CameraIdError, match=rf"cannot be a camera's id: .*{reason}.*Use 1 to 64 bytes"):
        camera_id(text)


@pytest.mark.parametrize("value", ["a%2Fb", "a%", "a%C3", "%zz"])
def test_escapes_hide_nothing(value: str) -> None:
    """An escaped character counts as the character itself; a broken escape is no id."""
    with pytest.raises(CameraIdError, match=r"it holds '[/%]'"):
        camera_id_in_header(value)


@given(st.text(max_size=MAX_LENGTH))
def test_ids_are_safe_where_they_go(text: str) -> None:
    """Any text is rejected, or its id is stable, stays in its folder and fits a name in an archive."""
    try:
        name = camera_id(text)
    except CameraIdError:
        return
    assert camera_id(name) == name
    assert not set(name) & set("/+#%\"'\\\r\n\0$=&<>")
    key = Job(new_job_id(), name, "jpeg", 1).image_key
    assert key.split("/")[1] == name
    (stored,) = contents(b"".join(bytes(piece) for piece in pack([(f"{name}/{key.split('/')[-1]}", b"x")])))
    assert stored.startswith(f"{name}/")


@pytest.mark.parametrize(
    ("pattern", "those", "others"),
    [
        ("belt-1", ["belt-1"], ["belt-10", "Belt-1", "abelt-1"]),
        ("line2-*", ["line2-", "line2-left"], ["line2", "line20", "xline2-a"]),
        ("*", ["a", "B\u00e4nd 1"], []),
        ("*-left", ["line2-left"], ["left", "line2-left-1"]),
        ("a*b*c", ["abc", "a-b-b-c"], ["ab", "acb"]),
        (" B\u0061\u0308nd*", ["B\u00e4nd 1"], ["Band 1"]),
        ("a.c", ["a.c"], ["abc"]),
        ("a(b)", ["a(b)"], ["ab"]),
    ],
)
def test_a_pattern_stands_for_cameras(pattern: str, those: list[str], others: list[str]) -> None:
    """A star for any characters, or none; everything else for itself."""
    stored = camera_pattern(pattern)
    assert [name for name in [*those, *others] if matches(name, [stored])] == those
    assert not matches("another", ["none", "nobody"])


@pytest.mark.parametrize("text", ["", " ", "a/*", "a?", "[ab]", "_*", "x" * 65, "a\n*", "#"])
def test_what_no_camera_can_match_is_no_pattern(text: str) -> None:
    """Other wildcards than the star are in no camera's id."""
    with pytest.raises(CameraPatternError, match="cannot be a pattern of cameras"):
        camera_pattern(text)


def test_a_pattern_of_many_stars_is_matched_at_once() -> None:
    """Its author cannot hold up the API."""
    assert not matches("a" * 64, [camera_pattern("a*" * 31 + "b")])
