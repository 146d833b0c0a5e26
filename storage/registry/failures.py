"""Images that failed, and when they are worth another try."""

from collections.abc import Collection, Mapping
from pathlib import Path

from imgrec.storage.errors import (
    CRASHED_DECODER,
    DECODER_HANGS,
    NOT_AN_IMAGE,
    OUT_OF_MEMORY,
    TOO_LARGE,
    UNREADABLE,
)
from imgrec.storage.forgetting import forget_in_shard
from imgrec.storage.photos.formats import names_installed_extra
from imgrec.storage.photos.limits import has_grown, names_limit
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import shards_with_failures
from imgrec.storage.shards import EMBEDDER_FAILED, FAILED_IN_ONE, NOT_FINITE

# So often an image that a worker had no memory for is tried again by itself: the machine may be less busy then, but one
# that is too small would be driven to its limit at every ingest.
MEMORY_RETRIES = 3

# What to do about a failed image, by its status; `remedy_for` also looks at the reason.
REMEDIES = {
    "empty": "restore the file from a copy",
    NOT_AN_IMAGE: "remove it or rename it: it is no photo; or install the extra that its reason names",
    "corrupt": "restore the file from a copy, or after an update of Pillow `imgrec ingest --retry-failed`",
    TOO_LARGE: "`imgrec ingest --max-megapixels N` takes it, and those like it",
    UNREADABLE: "give the permission, or mend the disk: every ingest tries it again",
    CRASHED_DECODER: "restore the file from a copy, or after an update of Pillow `imgrec ingest --retry-failed`",
    DECODER_HANGS: "`imgrec ingest --decode-timeout-s N` gives it more time",
    NOT_FINITE: "try a sound copy of the model, or another: `imgrec models check`; its other vectors are used",
    EMBEDDER_FAILED: "after an update of what it is from `imgrec ingest --retry-failed`; its other vectors are used",
    OUT_OF_MEMORY: f"the next {MEMORY_RETRIES} ingests try it again; then `imgrec ingest --workers 1 --retry-failed`",
}


# Of files that are too large whatever the settings (storage/photos/probe.py).
_REMEDY_OF_HUGE_FILES = "save a smaller copy, and move it out of the folder: no setting takes a file of more than 2 GiB"


def remedy_for(status: str, reason: str | None) -> str:
    """What to do about a failed image."""
    return _REMEDY_OF_HUGE_FILES if status == TOO_LARGE and not names_limit(reason) else REMEDIES[status]


def list_retryable(registry: Registry, limits: Mapping[str, float]) -> set[bytes]:
    """The failed contents that are worth another try: the setting that refused them has grown, memory may be there, or
    the extra that they need is.

    `limits` are today's values of the settings that reasons name.
    """
    rows = registry.connection.execute(
        """SELECT content_hash, status, reason, retries FROM images
           WHERE status <> 'ok' AND status IN (?, ?, ?, ?) AND content_hash IS NOT NULL""",
        (TOO_LARGE, DECODER_HANGS, OUT_OF_MEMORY, NOT_AN_IMAGE),
    )

    def is_over(status: str, reason: str, retries: int) -> bool:
        if status == OUT_OF_MEMORY:
            return retries < MEMORY_RETRIES
        return names_installed_extra(reason) if status == NOT_AN_IMAGE else has_grown(reason, limits)

    return {content_hash for content_hash, *failure in rows if is_over(*failure)}


def list_failed(registry: Registry) -> set[bytes]:
    """All failed contents, but for unreadable files, which are tried again at every scan anyway."""
    rows = registry.connection.execute(
        """SELECT content_hash FROM images WHERE status <> 'ok' AND status <> ? AND content_hash IS NOT NULL
           UNION SELECT content_hash FROM vector_failures WHERE status IN (?, ?)""",
        (UNREADABLE, *FAILED_IN_ONE),
    )
    return {row[0] for row in rows}


def forget_failures(registry: Registry, shards_dir: Path, contents: Collection[bytes], by_itself: bool = False) -> None:
    """Make failed contents pending again; the next scan reads their files again too.

    `by_itself` counts the try as one that nobody asked for. Shards first: killed in between, the registry still has
    the failures, so that the same call finds the same contents.
    """
    for name in shards_with_failures(registry, shards_dir, contents):
        forget_in_shard(registry, shards_dir, name, (), contents)
    keys = [(content,) for content in contents]
    with registry.transaction():
        many = registry.connection.executemany
        many("DELETE FROM vector_failures WHERE content_hash = ?", keys)
        many("DELETE FROM probes WHERE content_hash = ? AND status <> 'ok'", keys)
        many(
            f"""UPDATE images SET status = 'ok', reason = NULL, hashed_ns = 0,
                retries = {"retries + (status = ?2)" if by_itself else "0"}
                WHERE content_hash = ?1 AND status NOT IN ('ok', ?3)""",
            [(content, OUT_OF_MEMORY, UNREADABLE) for content in contents],
        )
