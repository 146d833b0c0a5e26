"""Any life of a folder of photos, against a dictionary."""

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imgrec.storage.registry.registry import Registry
from tests.storage.pictures import Photos, backdate

# The last two look alike to people: only one of them is UTF-8.
NAMES = st.sampled_from(["a.jpg", "b.jpg", "d/a.jpg", "d/b.jpg", os.fsdecode(b"\xff.jpg"), "\\xff.jpg"])
# Few, so that copies and returns are common; of one size, so that only ctime tells of a change.
CONTENTS = st.sampled_from([b"1", b"2", b"3", b"4"])
PICK = st.integers(0, 100)


class Killed(Exception):  # noqa: N818 - it stands for kill -9
    """The scan ends here."""


class LifeOfAFolder(RuleBasedStateMachine):
    """`files` is the folder as it should be, `seen` as the last scan saw it: path → (content, id).

    `touched` says that something happened since the last scan: two in a row would only cost steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.home = Path(tempfile.mkdtemp(prefix="imgrec-"))
        registry = self.stack.enter_context(Registry.open_for_writing(self.home / "registry.sqlite"))
        self.photos = Photos(self.home / "photos", registry)
        self.files: dict[str, bytes] = {}
        self.touched = False
        self.seen: dict[str, tuple[bytes, int]] = {}
        self.contents_of_ids: dict[int, bytes] = {}
        self.most_copies: Counter[bytes] = Counter()

    def teardown(self) -> None:
        self.stack.close()
        shutil.rmtree(self.home)

    def pick(self, number: int) -> str:
        return sorted(self.files)[number % len(self.files)]

    @initialize(files=st.dictionaries(NAMES, CONTENTS, min_size=2))
    def start(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            self.add_or_change(name, content)

    @rule(name=NAMES, content=CONTENTS)
    def add_or_change(self, name: str, content: bytes) -> None:
        self.photos.write(name, content=content)
        self.files[name] = content
        self.touched = True

    @precondition(lambda self: self.files)
    @rule(number=PICK, name=NAMES)
    def rename(self, number: int, name: str) -> None:
        old = self.pick(number)
        self.photos.move(old, name)
        self.files[name] = self.files.pop(old)
        self.touched = True

    @precondition(lambda self: self.files)
    @rule(number=PICK, name=NAMES)
    def copy(self, number: int, name: str) -> None:
        old = self.pick(number)
        if old != name:
            self.photos.path(name).parent.mkdir(exist_ok=True)
            shutil.copyfile(self.photos.path(old), self.photos.path(name))
            backdate(self.photos.path(name))
            self.files[name] = self.files[old]
            self.touched = True

    @precondition(lambda self: len(self.files) > 1)
    @rule(one=PICK, other=PICK)
    def swap(self, one: int, other: int) -> None:
        a, b = self.pick(one), self.pick(other)
        self.photos.move(a, "aside")
        if a != b:
            self.photos.move(b, a)
        self.photos.move("aside", b)
        self.files[a], self.files[b] = self.files[b], self.files[a]
        self.touched = True

    @precondition(lambda self: self.files)
    @rule(number=PICK)
    def delete(self, number: int) -> None:
        name = self.pick(number)
        self.photos.remove(name)
        del self.files[name]
        self.touched = True

    @precondition(lambda self: self.touched)
    @rule()
    def kill_a_scan(self) -> None:
        def die(done: int, total: int) -> None:
            raise Killed

        before = self.photos.ids()
        try:
            self.photos.scan(max_missing_share=1, on_read=die)
        except Killed:
            assert self.photos.ids() == before
        else:
            self.check()  # there was nothing to read

    @precondition(lambda self: self.touched)
    @rule()
    def scan(self) -> None:
        self.touched = False
        self.photos.scan(max_missing_share=1)
        self.check()
        self.photos.scan(max_missing_share=1)
        assert self.photos.read == []

    def check(self) -> None:
        """The registry says what the folder says."""
        hashes = {hashlib.sha256(content).digest(): content for content in (b"1", b"2", b"3", b"4")}
        rows = self.photos.registry.connection.execute("SELECT id, content_hash FROM images").fetchall()
        contents = {image_id: hashes[content_hash] for image_id, content_hash in rows}
        present = {name: (contents[image_id], image_id) for name, image_id in self.photos.ids().items()}
        assert {name: content for name, (content, _) in present.items()} == self.files
        assert len({image_id for _, image_id in present.values()}) == len(present)
        # An id keeps its content for life, and its row.
        assert {image_id: contents.get(image_id) for image_id in self.contents_of_ids} == self.contents_of_ids
        self.contents_of_ids = contents
        # What stayed where it was has its id still.
        for name, (content, image_id) in present.items():
            if name in self.seen and self.seen[name][0] == content:
                assert self.seen[name][1] == image_id
        self.seen = present
        # A row is made only when all rows of its content are in use.
        self.most_copies |= Counter(self.files.values())
        assert Counter(contents.values()) == self.most_copies

    @invariant()
    def paths_are_unique(self) -> None:
        connection = self.photos.registry.connection
        count = connection.execute("SELECT count(*) FROM images WHERE missing_since IS NULL").fetchone()[0]
        assert len(self.photos.ids()) == count


LifeOfAFolder.TestCase.settings = settings(max_examples=80, stateful_step_count=25)
TestLifeOfAFolder = LifeOfAFolder.TestCase
