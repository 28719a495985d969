"""api.http.multipart: files in a form, without copies."""

from __future__ import annotations

import gzip
import random
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multipart import MultipartError, PushMultipartParser
from werkzeug.exceptions import RequestEntityTooLarge

from api.http.multipart import File, parse_form
from api.http.problems import RequestError
from tests.support.images import jpeg

EDGE = "edge"
FIELD = b'Content-Disposition: form-data; name="a"'
NAMED = b'Content-Disposition: form-data; name="a"; filename="%s"'

contents = st.lists(
    st.one_of(
        st.binary(max_size=60), st.sampled_from([b"\r\n", b"\r\n--", b"\r\n--ed", b"--edg", b"\r", b"-"])
    ),
    max_size=5,
).map(b"".join)


def form(*parts: bytes, end: bytes = b"--") -> bytes:
    """A form of parts, each with its header."""
    return b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + b"--edge" + end + b"\r\n"


def read(body: bytes) -> list[tuple[str, str, bytes]]:
    """Name, type and content of each file."""
    files = parse_form(body, EDGE, max_parts=9).files
    return [(file.name, file.media_type, bytes(file.data)) for file in files]


def pushed(body: bytes) -> list[tuple[str, str, bytes]]:
    """The same, as the parser of `multipart` reads it; a part without a name is a file if it has a type."""
    parts: list[tuple[str | None, str, list[bytes]]] = []
    with PushMultipartParser(EDGE) as parser:
        for event in parser.parse(body):
            if event is None:
                continue
            if isinstance(event, bytes | bytearray):
                parts[-1][2].append(bytes(event))
            else:
                kind = event.content_type or ""
                name = event.name if event.filename is None and kind else event.filename
                parts.append((name, kind, []))
    return [(name, kind, b"".join(pieces)) for name, kind, pieces in parts if name is not None]


@given(st.lists(contents, max_size=4))
def test_files_come_out_as_they_went_in(files: list[bytes]) -> None:
    """Also if they hold line ends and almost the boundary; so the parser of `multipart` reads them."""
    files = [data for data in files if not data.startswith(b"--edge") and b"\r\n--edge" not in data]
    body = form(
        *(NAMED % b"%d.jpg" % at + b"\r\nContent-Type: image/jpeg\r\n\r\n" + d for at, d in enumerate(files))
    )
    expected = [(f"{at}.jpg", "image/jpeg", data) for at, data in enumerate(files)]
    assert read(body) == expected
    if files:
        assert pushed(body) == expected


def test_contents_are_views() -> None:
    """Nothing is copied: a change of the body is a change of the file."""
    body = bytearray(form(NAMED % b"a.jpg" + b"\r\n\r\nabc"))
    (file,) = parse_form(body, EDGE, max_parts=1).files
    body[body.index(b"abc")] = ord("x")
    assert file == File("a.jpg", "", memoryview(b"xbc"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"content-disposition:form-data;name=a;filename=b.png", ("b.png", "")),
        (NAMED % "b\u00e4.png".encode() + b"\r\nCONTENT-TYPE: Image/PNG; x=y", ("b\u00e4.png", "image/png")),
        (b'Content-Disposition: form-data;\r\n name="a";\r\n\tfilename="b.png"', ("b.png", "")),
        (NAMED % b"b.png" + b"\r\nContent-Length: 7\r\nX-Else: y", ("b.png", "")),
        (NAMED % b"b\xe4.png", ("b\u00e4.png", "")),
        (FIELD + b"; filename*=UTF-8''b%C3%A4.png", ("b\u00e4.png", "")),
        (FIELD + b"; filename*=iso-8859-1'de'b%e4.png", ("b\u00e4.png", "")),
        (FIELD + b"; filename*=\"utf-8''b.png\"; filename=c.png", ("c.png", "")),
        (FIELD + b"\r\nContent-Type: image/png", ("a", "image/png")),
        (FIELD + b"\r\nContent-Type: application/octet-stream", ("a", "application/octet-stream")),
        (b"Content-Disposition: form-data\r\nContent-Type: multipart/mixed", ("", "multipart/mixed")),
    ],
)
def test_headers_may_be_written_in_several_ways(header: bytes, expected: tuple[str, str]) -> None:
    """In any case, folded, with options, with other fields, without a name, with one in another encoding."""
    assert read(form(header + b"\r\n\r\nx")) == [(*expected, b"x")]


def test_text_around_the_parts_is_left_out() -> None:
    """Before the first boundary and after the last."""
    body = b"preamble\r\n" + form(NAMED % b"a" + b"\r\n\r\ny") + b"epilogue"
    assert read(body) == [("a", "", b"y")]


@pytest.mark.parametrize("kind", [b"", b"\r\nContent-Type: text/plain"])
@pytest.mark.parametrize(
    "content", [jpeg(), b64encode(jpeg()), b"data:image/jpeg;base64," + b64encode(jpeg())]
)
def test_an_image_without_a_name_is_a_file(content: bytes, kind: bytes) -> None:
    """Recognised by its bytes, not by its headers; its name is the field's."""
    media_type = kind.decode().partition(" ")[2]
    assert read(form(FIELD + kind + b"\r\n\r\n" + content)) == [("a", media_type, content)]


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/ld+json", "text/csv"])
def test_text_without_a_name_is_a_field(kind: str) -> None:
    """Many clients declare its type; its name is in the error, shortened."""
    named = b'Content-Disposition: form-data; name="%s"\r\nContent-Type: %s\r\n\r\nx'
    with pytest.raises(RequestError, match=f"a text field '{'f' * 80}', which this call does not take"):
        read(form(NAMED % b"a" + b"\r\n\r\ny", named % (b"f" * 99, kind.encode())))


def test_a_part_is_decoded_as_its_header_says() -> None:
    """From base64; the sentence names an unsupported encoding."""
    header = FIELD + b"; filename=a\r\nContent-Type: image/jpeg\r\nContent-Transfer-Encoding: %s\r\n\r\n"
    part = header % b"BASE64" + b64encode(jpeg())
    plain = header % b"binary" + jpeg()
    zipped = header.replace(b"Transfer-", b"") % b"gzip" + gzip.compress(jpeg())
    files = parse_form(form(part, plain, zipped), EDGE, max_parts=3).files
    assert [file.image() for file in files[:2]] == [(jpeg(), "image/jpeg")] * 2
    with pytest.raises(RequestError, match="'gzip' is not supported in a form's part"):
        files[2].image()


@pytest.mark.parametrize(
    "more",
    [b"", b"; filename=m.json", b"\r\nContent-Type: application/json", b"; filename=m\r\nContent-Type: a/b"],
)
def test_metadata_are_no_file(more: bytes) -> None:
    """However a client writes the part; its content is a view."""
    part = b'Content-Disposition: form-data; name="metadata"' + more + b'\r\n\r\n{"files": []}'
    read = parse_form(form(part, NAMED % b"a" + b"\r\n\r\ny"), EDGE, max_parts=2)
    assert bytes(read.metadata or b"") == b'{"files": []}'
    assert [file.name for file in read.files] == ["a"]


def test_metadata_come_first_and_once() -> None:
    """Before the files, so that they can be read before them; an image may be called so."""
    metadata = b'Content-Disposition: form-data; name="metadata"\r\n\r\n'
    file = NAMED % b"a" + b"\r\n\r\ny"
    for parts in ((file, metadata), (metadata, metadata)):
        with pytest.raises(RequestError, match="is not the form's first, or there are two"):
            parse_form(form(*parts), EDGE, max_parts=2)
    named_so = parse_form(form(file, metadata + jpeg()), EDGE, max_parts=2)
    assert ([file.name for file in named_so.files], named_so.metadata) == (["a", "metadata"], None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        b"x--edge--",
        form(NAMED % b"a" + b"\r\n\r\nx", end=b"-x"),
        form(NAMED % b"a" + b"\r\n\r\nx").replace(b"--edge\r\n", b"--edge\n", 1),
        form(b"\r\n\r\nx"),
        form(b"no colon\r\n\r\nx"),
        form(b'Content-Disposition: attachment; filename="a"\r\n\r\nx'),
        form(b"Content-Type: image/jpeg\r\n\r\nx"),
    ],
)
def test_a_malformed_form_is_rejected(body: bytes) -> None:
    """The sentence names the fault."""
    with pytest.raises(RequestError, match=r"not a complete form: .+; send it again"):
        read(body)


def test_a_form_without_a_boundary_is_rejected() -> None:
    """An empty one would be found everywhere."""
    with pytest.raises(RequestError, match="declares no boundary"):
        parse_form(b"----\r\n", "", max_parts=1)


def test_a_form_cut_off_anywhere_is_rejected() -> None:
    """Up to the last boundary's own end."""
    body = form(NAMED % b"a" + b"\r\n\r\nx", NAMED % b"b" + b"\r\n\r\n" + b"y" * 100)
    for length in range(len(body) - 2):
        with pytest.raises(RequestError):
            read(body[:length])
    assert len(read(body)) == 2


def test_headers_and_parts_have_limits() -> None:
    """A header of 4 kB, and as many parts as the caller counts."""
    padding = b"\r\nX: " + b"x" * 4000
    assert len(read(form(NAMED % b"a" + padding + b"\r\n\r\nx"))) == 1
    with pytest.raises(RequestEntityTooLarge):
        read(form(NAMED % b"a" + 2 * padding + b"\r\n\r\nx"))
    part = NAMED % b"a" + b"\r\n\r\nx"
    assert len(read(form(*[part] * 9))) == 9
    with pytest.raises(RequestEntityTooLarge):
        read(form(*[part] * 10))


def test_a_damaged_form_is_read_as_multipart_reads_it_or_rejected() -> None:
    """Bytes changed at random: never other files than the parser of `multipart` finds, if it finds any."""
    chance = random.Random(1)  # noqa: S311 - test data
    whole = form(
        *(NAMED % b"%d" % at + b"\r\nContent-Type: image/png\r\n\r\n" + b"z" * at for at in range(4))
    )
    same = 0
    for _ in range(3000):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            body[chance.randrange(len(body))] = chance.choice(b'\r\n-:;e "xz\x00\xff')
        try:
            files = read(bytes(body))
        except (RequestError, RequestEntityTooLarge):
            continue
        try:
            assert files == pushed(bytes(body))
            same += 1
        except MultipartError:
            pass  # It is stricter about names of fields.
    assert same > 500
