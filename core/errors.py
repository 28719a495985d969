"""Every error that wastestream raises on purpose, under one base class."""

from __future__ import annotations


class WastestreamError(Exception):
    """Base class. Its message is one sentence for the person who reads it."""


class SettingsError(WastestreamError):
    """Raised when a setting is missing or invalid."""


class ImageError(WastestreamError):
    """Base class: the bytes sent cannot be classified as an image."""


class UnsupportedImageError(ImageError):
    """Raised when the bytes are not JPEG, PNG or WebP."""


class ImageTooLargeError(ImageError):
    """Raised when an image has more bytes or pixels than the limits allow."""


class CorruptImageError(ImageError):
    """Raised when an image's bytes break off or contradict themselves."""


class ModelError(WastestreamError):
    """Raised when a model folder is incomplete, altered or cannot be loaded."""


class JobNotFoundError(WastestreamError):
    """Raised when no job has the id asked for (never accepted, or past its retention)."""


class IdempotencyConflictError(WastestreamError):
    """Raised when an idempotency key is used again with other bytes."""


class BusyError(WastestreamError):
    """Raised when this process is at its capacity; trying again later can help."""


class StorageUnavailableError(WastestreamError):
    """Raised when the S3 server cannot be reached or denies access; trying again later can help."""


class DiskFullError(WastestreamError):
    """Raised when the disk of Redis and storage is full; trying again later can help."""


class ObjectNotFoundError(WastestreamError):
    """Raised when storage answers that the object asked for does not exist."""


class RedisUnavailableError(WastestreamError):
    """Raised when Redis cannot be reached or cannot write; trying again later can help."""


class RedisRejectedError(RedisUnavailableError):
    """Raised when Redis or a Sentinel rejects the connection; the message names the setting to correct."""


class NotReplicatedError(RedisUnavailableError):
    """Raised when too few replicas have confirmed a write in time; the master has done it."""


class RedisFullError(RedisUnavailableError):
    """Raised when Redis has no memory for more (`maxmemory`), so that nothing was recorded for certain."""


class ArchiveError(WastestreamError):
    """Raised when an archived hour of results is damaged."""


class DataLostError(WastestreamError):
    """Raised when Redis or storage has lost its data or is another one; a person has to decide."""


class BackupError(WastestreamError):
    """Raised when a backup cannot be made, is damaged, or cannot be restored here."""


class EvictionError(RedisUnavailableError):
    """Raised when Redis is configured to evict keys, and so jobs, when its memory is full."""


class MissingRightsError(RedisUnavailableError):
    """Raised when Redis' user lacks rights that the programs need; the message names them."""


class KeyNotFoundError(WastestreamError):
    """Raised when an API key is unknown."""


class CameraNotFoundError(WastestreamError):
    """Raised when a camera is unknown."""


class CameraBusyError(WastestreamError):
    """Raised when a camera cannot be renamed or forgotten: jobs of its images have not settled."""


class CameraExistsError(WastestreamError):
    """Raised when a camera cannot be renamed because another one has the new name."""


class WebhookNotFoundError(WastestreamError):
    """Raised when a webhook is unknown."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"There is no webhook {webhook_id[:80]!r}; GET /v1/webhooks lists them.")


class TooManyWebhooksError(WastestreamError):
    """Raised when the maximum number of webhooks exists."""


class TargetError(WastestreamError):
    """Raised when a URL is no target for webhooks. Its message follows the name of the URL."""


class NameTakenError(WastestreamError):
    """Raised when another API key has the name of a new one."""


class KeyBindingError(WastestreamError):
    """Raised when a new API key has the scope `admin` and is bound to cameras."""


class CursorExpiredError(WastestreamError):
    """Raised when results after a cursor have expired; `oldest` is the first valid cursor."""

    def __init__(self, oldest: str) -> None:
        super().__init__(
            "Results after this cursor are no longer kept; read older ones from the archive, and go on "
            f"with after={oldest}."
        )
        self.oldest = oldest


class RateLimitError(WastestreamError):
    """Raised when the rate limit of an API key is used up, for `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(
            f"This API key has sent as many images as it may for now; go on in {retry_after:.1f} seconds."
        )
        self.retry_after = retry_after


class CameraIdError(WastestreamError):
    """Raised when a text is not a valid camera id."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(
            f"{text[:80]!r} cannot be a camera's id: {reason}. Use 1 to 64 bytes of letters, digits, spaces "
            "and . _ - : , ( ) @, beginning with a letter or digit."
        )


class CameraPatternError(WastestreamError):
    """Raised when a text is not a valid pattern of camera ids."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(
            f"{text[:80]!r} cannot be a pattern of cameras: {reason}. Write a camera's id, in which * "
            "stands for any characters, such as 'line2-*'."
        )


class TooManyCamerasError(WastestreamError):
    """Raised when an upload names a new camera and the bound of cameras is reached."""

    def __init__(self, limit: int, whose: str) -> None:
        """Name the bound: `limit` cameras in all, or of one API key if `whose` is "owner"."""
        why, setting = (
            (f"this API key has brought {limit:,} already", "WASTESTREAM_KEY_CAMERAS")
            if whose == "owner"
            else (f"there are {limit:,} already", "WASTESTREAM_MAX_CAMERAS")
        )
        super().__init__(
            f"The camera is new, and {why}; use the id of a known one, or let the operator "
            f"forget some (wastestream cameras) or raise {setting}."
        )


class QueueFullError(WastestreamError):
    """Raised when the queue is full, for an estimated `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
