"""Check of uploaded images by their first bytes, without decoding, and the digest of an upload."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.ingest.commit import Image, Origin
from core.cost import decode_ms
from core.errors import ImageError
from core.formats.layout import ImageBytes
from core.image_header import MAX_BYTES, ImageHeader, read_header
from core.redis.admission import Idempotency

_ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/jfif": "image/jpeg",
    "image/x-jpeg": "image/jpeg",
    "image/x-jpg": "image/jpeg",
    "image/x-png": "image/png",
    "image/apng": "image/png",
    "image/x-webp": "image/webp",
}
"""Other names of the image types, as cameras and old browsers write them."""

_FORM: Final = "application/x-www-form-urlencoded"


def check(data: ImageBytes, media_type: str, origin: Origin) -> Image:
    """Check one image by its first bytes, without decoding it.

    The bytes tell what an image is. A declared type only excludes another image type: cameras declare
    `application/octet-stream`, nothing, or what their HTTP library adds by itself.

    Args:
        data: the bytes sent.
        media_type: the type that the client declared, empty if none.
        origin: of the image.

    Raises:
        RequestError: 400 empty, 413 too many bytes, 415 another image type than the one declared.
        ImageError: as `core.image_header.read_header`.
    """
    if not data:
        raise RequestError(ProblemType.EMPTY_IMAGE, "The image is empty; send its bytes.")
    if len(data) > MAX_BYTES:
        raise RequestError(
            ProblemType.BODY_TOO_LARGE,
            f"The image has {len(data):,} bytes; send at most {MAX_BYTES:,} (10 MiB).",
        )
    header = _read_header(data, media_type)
    if media_type != header.media_type and _is_other_image(media_type, header.media_type):
        raise RequestError(
            ProblemType.MEDIA_TYPE_MISMATCH,
            f"Content-Type says {media_type[:80]}, but the bytes are {header.media_type}; "
            "declare what is sent, or application/octet-stream.",
        )
    return Image(data, header.format, decode_ms(header, len(data)), origin)


def _read_header(data: ImageBytes, media_type: str) -> ImageHeader:
    try:
        return read_header(data)
    except ImageError as error:
        if not media_type.lower().startswith(_FORM):
            raise
        raise type(error)(
            f"{error} Content-Type says {_FORM}, as curl's -d does, which leaves bytes of a file out: use "
            "--data-binary, and the Content-Type of the image."
        ) from error


def _is_other_image(media_type: str, actual: str) -> bool:
    """Return whether a media type, as a client wrote it, names an image type that is not the actual one."""
    name = media_type.partition(";")[0].strip().lower()
    return name.startswith("image/") and name != "image/*" and _ALIASES.get(name, name) != actual


def idempotency_of(
    key: str | None, images: Sequence[Image], parts: Iterable[tuple[str, ImageBytes]], owner: str
) -> Idempotency | None:
    """Return an idempotency key with a digest of all that must be the same if the upload is repeated.

    Args:
        key: from the client; without one the result is None.
        images: the good ones of the parts.
        parts: media type as declared, and bytes, of everything sent with the key.
        owner: the client's id, since two clients may choose the same key.
    """
    if key is None:
        return None
    cameras = [image.origin.camera for image in images]
    # Images of one camera have the same digest whether a header names it or metadata. No id has a slash.
    whole = _digest(("/".join(cameras) if len(set(cameras)) > 1 else cameras[0]).encode())
    for media_type, data in parts:
        whole.update(_digest(media_type.encode()).digest() + _digest(data).digest())
    return Idempotency(key, whole.hexdigest(), owner, cameras)


def _digest(data: ImageBytes) -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=16)
