"""What is found: groups of photos that are copies of one picture."""

from dataclasses import dataclass

EXACT, NEAR = "exact", "near"


@dataclass(frozen=True)
class Copy:
    """One photo of a group.

    `score` is its cosine to the first photo of the group, 1 if both have the same bytes. `why` says why it is kept, or
    why it is not; then `instead` is the id of the photo that is kept in its place. `file` is absolute, and opens;
    `below` is the same below the folder of photos, and `path` that as it is printed. `modified_ns` is since 1970.
    """

    id: int
    path: str
    file: str
    below: str
    score: float
    keep: bool
    why: str
    instead: int | None
    size: int
    width: int
    height: int
    format: str
    modified_ns: int
    content_hash: bytes


@dataclass(frozen=True)
class Group:
    """Copies of one picture, the one to keep first. `number` is the lowest id among them, so it stays while that does.

    A group is `exact` if all files have the same bytes, else `near`.
    """

    number: int
    kind: str
    copies: tuple[Copy, ...]

    @property
    def contents(self) -> frozenset[bytes]:
        return frozenset(copy.content_hash for copy in self.copies)

    @property
    def spare_bytes(self) -> int:
        """What the photos take that are not kept."""
        return sum(copy.size for copy in self.copies if not copy.keep)
