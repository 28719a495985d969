"""The configuration: a YAML file, or options of a command line, checked with a sentence for each mistake."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from wastestream.connect import is_address
from wastestream.gateway.errors import ConfigError
from wastestream.gateway.index import Order
from wastestream.gateway.source import Kind, Source, parse_source

DEFAULT_LISTEN: Final = "127.0.0.1:8060"
"""Default address of the gateway's own HTTP server."""

_CAMERA_ID: Final = re.compile(r"[^\W_][\w .\-:,()@]*")
_MAX_ID: Final = 64  # bytes
_MAX_FILE: Final = 1_048_576  # bytes


def _camera_id(text: str) -> str:
    if not _CAMERA_ID.fullmatch(text) or len(text.encode()) > _MAX_ID:
        raise ValueError(
            f"{text[:_MAX_ID]!r} is no camera id; use 1 to 64 bytes of letters, digits, spaces and "
            ". _ - : , ( ) @, beginning with a letter or digit"
        )
    return text


def _rate(value: object) -> object:
    """Return the number of a rate, which may be written as a fraction: 1/60 is one frame a minute."""
    if isinstance(value, str):
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(
                f"{value[:20]!r} is no number of frames a second; write 5, 0.5 or 1/60"
            ) from error
    return value


def _source(value: object, context: ValidationInfo) -> Source:
    if not isinstance(value, str):
        raise ValueError("must be a text: rtsp://, http://, a file, a device or a folder")  # noqa: TRY004
    return parse_source(value, context.context or Path())


def _server(text: str) -> str:
    if not is_address(text.rstrip("/")):
        raise ValueError("is no address; write http://HOST:PORT or https://HOST")
    return text


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
        usable = loopback and 0 <= int(port) < 65536  # noqa: PLR2004 - ports
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{text!r} is no address of this machine alone; write {DEFAULT_LISTEN}")
    return text


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Crop(_Model):
    """A region of the camera's picture, in pixels from its upper left corner, before rotation."""

    x: Annotated[int, Field(ge=0)]
    y: Annotated[int, Field(ge=0)]
    width: Annotated[int, Field(ge=16)]
    height: Annotated[int, Field(ge=16)]


class SkipSimilar(_Model):
    """When to skip frames that nearly equal the last one kept.

    Attributes:
        difference: mean difference of brightness, 0-255, below which frames are nearly equal.
        every: of so many nearly equal frames in a row, one is kept anyway.
    """

    difference: Annotated[float, Field(gt=0, le=255)] = 2.0
    every: Annotated[int, Field(ge=2)] = 25


class Camera(_Model):
    """One camera.

    Attributes:
        id: its id at the server.
        source: where its frames come from.
        fps: frames a second to sample; 0: only when triggered.
        crop: region to keep; None: the whole picture.
        rotate: degrees, clockwise.
        quality: of JPEG where the gateway encodes, on FFmpeg's scale: 2 is best, 31 is worst.
        skip_similar: None: every sampled frame is kept.
        options: options for FFmpeg, such as `rtsp_transport` or `video_size`.
        silent_after: seconds without a frame after which the source is restarted; None: 15, or three times
            the interval of sampling if that is longer.
        max_memory_mb: memory of the source's process at which it is restarted.
        done: what to do with a folder's files when their frames are safe.
    """

    id: Annotated[str, AfterValidator(_camera_id)]
    source: Annotated[Source, BeforeValidator(_source)]
    fps: Annotated[float, BeforeValidator(_rate), Field(ge=0, le=120)] = 1.0
    crop: Crop | None = None
    rotate: Literal[0, 90, 180, 270] = 0
    quality: Annotated[int, Field(ge=2, le=31)] = 3
    skip_similar: SkipSimilar | None = None
    options: dict[str, str | int | float] = {}
    silent_after: Annotated[float, Field(gt=0)] | None = None
    max_memory_mb: Annotated[int, Field(ge=100)] = 500
    done: Literal["keep", "move", "delete"] = "keep"

    @property
    def silence(self) -> float:
        """Seconds without a frame after which the camera is silent."""
        if self.silent_after is not None:
            return self.silent_after
        return max(15.0, 3 / self.fps) if self.fps else 15.0


class SpoolConfig(_Model):
    """The spool.

    Attributes:
        folder: its folder.
        max_gb: bytes of its frames, in 10**9.
        max_days: days for which it keeps a frame.
        backfill: which frames of the backlog are sent first.
    """

    folder: Path = Path("wastestream-spool")
    max_gb: Annotated[float, Field(gt=0)] = 10.0
    max_days: Annotated[float, Field(gt=0)] = 7.0
    backfill: Order = "newest"


class Config(_Model):
    """The gateway.

    Attributes:
        server: address of the server.
        key_file: file with the API key; None: the variable WASTESTREAM_API_KEY, if it is set.
        site: name of the place, which the server shows with each camera.
        listen: address of the gateway's own HTTP server, on loopback.
        spool: the spool.
        cameras: the cameras.
    """

    server: Annotated[str, AfterValidator(_server)] = "http://127.0.0.1:8000"
    key_file: Path | None = None
    site: Annotated[str, Field(max_length=100)] = ""
    listen: Annotated[str, AfterValidator(_listen)] = DEFAULT_LISTEN
    spool: SpoolConfig = SpoolConfig()
    cameras: tuple[Camera, ...]


def load_config(path: Path) -> Config:
    """Return the configuration of a YAML file. Relative paths in it are relative to its folder.

    Raises:
        ConfigError: the file cannot be read, or has mistakes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        document = yaml.safe_load(content)
    except yaml.YAMLError as error:
        # The text of the error quotes the file, perhaps with a password.
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        raise ConfigError(f"{path}{where}: this is no YAML; check indents, colons and quotes.") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: the file has no members; begin with `server:` and `cameras:`.")
    return make_config(document, f"{path}: ", path.parent)


def make_config(document: Mapping[str, Any], where: str = "", folder: Path = Path()) -> Config:
    """Return the configuration of a document.

    Args:
        document: names and values.
        where: begin of each sentence about a mistake.
        folder: of relative paths.

    Raises:
        ConfigError: it has mistakes.
    """
    try:
        config = Config.model_validate(dict(document), context=folder)
    except ValidationError as error:
        sentences = dict.fromkeys(_sentence(dict(mistake), document) for mistake in error.errors())
        raise ConfigError("\n".join(f"{where}{sentence}" for sentence in sentences)) from None
    mistakes = [*_contradictions(config.cameras)]
    if mistakes:
        raise ConfigError("\n".join(f"{where}{sentence}" for sentence in mistakes))
    spool = config.spool.model_copy(update={"folder": folder / config.spool.folder})
    return config.model_copy(
        update={"key_file": config.key_file and folder / config.key_file, "spool": spool}
    )


def _contradictions(cameras: Sequence[Camera]) -> Iterator[str]:
    """Yield a sentence for each camera that contradicts itself or another one."""
    if not cameras:
        yield "cameras is empty; name at least one camera."
    seen = set[str]()
    for camera in cameras:
        if camera.id in seen:
            yield f"two cameras have the id {camera.id!r}; give each camera its own."
        seen.add(camera.id)
        if camera.source.kind is Kind.FOLDER and (camera.crop or camera.rotate or camera.skip_similar):
            yield (
                f"camera {camera.id!r} reads a folder, whose files are sent as they are; remove crop, rotate "
                "and skip_similar."
            )
        if camera.source.kind is not Kind.FOLDER and camera.done != "keep":
            yield f"camera {camera.id!r} reads no folder; remove `done`, which is about a folder's files."


def _sentence(mistake: dict[str, Any], document: Mapping[str, Any]) -> str:
    """Return a sentence about pydantic's error; no value of the document is in it but what ours quote."""
    *place, name = mistake["loc"]
    subject = _subject(place, document)
    kind, limits = mistake["type"], mistake.get("ctx", {})
    if kind == "missing":
        return f"{subject}{name} is missing."
    if kind == "extra_forbidden":
        return f"{subject}{name} is no known member; remove it, or correct its name."
    if kind == "value_error":
        return f"{subject}{name} {limits['error']}."
    if kind == "model_type":
        return f"{subject or 'the file.'}{name} must have members, such as `id: belt-1`."
    expected = mistake["msg"].removeprefix("Input ").replace("should be", "must be")
    return f"{subject}{name} {expected[0].lower()}{expected[1:]}."


def _subject(place: list[int | str], document: Mapping[str, Any]) -> str:
    """Return the words for where a member stands: of a camera its id, if it has one."""
    if place[:1] == ["cameras"] and len(place) > 1:
        number = int(place[1])
        camera = document["cameras"][number]
        named = camera.get("id") if isinstance(camera, dict) else None
        inner = "".join(f"{name}." for name in place[2:])
        return f"camera {named!r}: {inner}" if named is not None else f"camera {number + 1}: {inner}"
    return "".join(f"{name}." for name in place)
