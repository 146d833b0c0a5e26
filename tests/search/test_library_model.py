"""Any life of a whole library, crashes included, against a dictionary."""

import hashlib
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from imgrec.embedders.catalogue import create_embedder
from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.indexes import adding
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.reader import IndexReader
from imgrec.search.indexes.rescoring import ExactScores, rescore
from imgrec.search.upkeep import garbage
from imgrec.storage import mirror
from imgrec.storage.library import create_library
from imgrec.storage.photos.decoding import decode
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import list_shards, read_shard
from tests.search.libraries import ingest
from tests.storage.pictures import Photos, picture, wait_for_another_ctime

NAMES = st.sampled_from(["a.png", "b.png", "c.png", "d/a.png", "d/b.png", os.fsdecode(b"\xff.png")])
CONTENTS = st.integers(1, 6)
PICK = st.integers(0, 100)
SETTINGS = {"bins": [2, 2, 2], "decode_min_side": 64}
EMBEDDER = create_embedder("color", SETTINGS)
HASHES = {number: hashlib.sha256(picture(number)).digest() for number in range(1, 7)}
VECTORS = {number: EMBEDDER.embed([decode(picture(number), 64, 1)])[0].tobytes() for number in HASHES}


class Crash(BaseException):
    """The process ends here."""


class _Trap:
    """Raises at the n-th step in a folder: a file opened for writing, renamed, removed, a folder made."""

    def __init__(self) -> None:
        self.folder, self.left = "", 0
        sys.addaudithook(self._watch)

    def set(self, folder: Path, steps: int) -> None:
        self.folder, self.left = str(folder), steps

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.left:
            return
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
        elif event not in ("os.rename", "os.remove", "os.mkdir", "sqlite3.connect"):
            return
        if str(arguments[0]).startswith(self.folder):
            self.left -= 1
            if not self.left:
                raise Crash


TRAP = _Trap()


class LifeOfALibrary(RuleBasedStateMachine):
    """`files` is the folder as it should be: path → number of its content. `embedded` are the contents done so far."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="imgrec-"))
        with Registry.open_for_writing(self.home / "unused.sqlite") as registry:
            self.photos = Photos(self.home / "photos", registry)
        self.library = create_library(self.home / "library", self.home / "photos", ("color",), SETTINGS)
        self.files: dict[str, int] = {}
        self.ids: dict[int, bytes] = {}
        self.limits = patch.multiple(mirror, SPARE_SHARDS=2, MERGED_VECTORS=4)
        self.graphs = patch.multiple(adding, FULL_ROWS=dict.fromkeys(adding.FULL_ROWS, 4), MERGE_FACTOR=2)
        self.limits.start()
        self.graphs.start()

    def teardown(self) -> None:
        TRAP.set(self.home, 0)
        self.limits.stop()
        self.graphs.stop()
        shutil.rmtree(self.home)

    def pick(self, number: int) -> str:
        return sorted(self.files)[number % len(self.files)]

    @initialize(files=st.dictionaries(NAMES, CONTENTS, min_size=2))
    def start(self, files: dict[str, int]) -> None:
        for name, content in files.items():
            self.add_or_change(name, content)

    @rule(name=NAMES, content=CONTENTS)
    def add_or_change(self, name: str, content: int) -> None:
        self.photos.write(name, content=content)
        self.files[name] = content

    @precondition(lambda self: self.files)
    @rule(number=PICK, name=NAMES)
    def rename(self, number: int, name: str) -> None:
        old = self.pick(number)
        self.photos.move(old, name)
        self.files[name] = self.files.pop(old)

    @precondition(lambda self: len(self.files) > 1)
    @rule(one=PICK, other=PICK)
    def swap(self, one: int, other: int) -> None:
        a, b = self.pick(one), self.pick(other)
        self.photos.move(a, "aside")
        if a != b:
            self.photos.move(b, a)
        self.photos.move("aside", b)
        self.files[a], self.files[b] = self.files[b], self.files[a]

    @precondition(lambda self: self.files)
    @rule(number=PICK)
    def delete(self, number: int) -> None:
        name = self.pick(number)
        self.photos.remove(name)
        del self.files[name]

    @rule(number=PICK)
    def lose_a_shard(self, number: int) -> None:
        shards = list(list_shards(self.library.shards_dir))
        if shards:
            shards[number % len(shards)].unlink()

    @rule(steps=st.integers(1, 60))
    def crash(self, steps: int) -> None:
        TRAP.set(self.library.root, steps)
        try:
            self.ingest()
        except Crash:
            pass
        else:
            TRAP.set(self.library.root, 0)
            self.check()

    @rule(steps=st.integers(0, 40), missing_days=st.sampled_from([None, 0.0]))
    def collect_garbage(self, steps: int, missing_days: float | None) -> None:
        """It may crash too, and changes nothing but that photos that are gone may be forgotten."""
        TRAP.set(self.library.root, steps)
        with suppress(Crash, IndexNotFoundError, IndexDamagedError):  # what a crash left without a current version
            garbage.collect_garbage(self.library.root, True, 0, missing_days)
        TRAP.set(self.library.root, 0)
        if missing_days is not None:
            with Registry.open_for_reading(self.library.registry_path) as registry:
                left = {row[0] for row in registry.connection.execute("SELECT id FROM images")}
            self.ids = {image_id: content for image_id, content in self.ids.items() if image_id in left}

    @rule()
    def complete(self) -> None:
        self.ingest()
        self.check()

    def ingest(self) -> None:
        wait_for_another_ctime(self.home)
        ingest(self.library)

    def check(self) -> None:
        """The library says what the folder says, bit by bit."""
        with Registry.open_for_reading(self.library.registry_path) as registry:
            rows = registry.connection.execute(
                """SELECT ifnull(raw_path, CAST(path AS BLOB)), id, content_hash, vector
                   FROM images LEFT JOIN color_vectors ON image_id = id WHERE missing_since IS NULL"""
            ).fetchall()
            assert {os.fsdecode(path): (content, vector) for path, _, content, vector in rows} == {
                name: (HASHES[number], VECTORS[number]) for name, number in self.files.items()
            }
            contents = dict(registry.connection.execute("SELECT id, content_hash FROM images").fetchall())
            assert {image_id: contents.get(image_id) for image_id in self.ids} == self.ids
            self.ids = contents
            assert mirror.are_settled(registry, self.library.shards_dir)
        live = {image_id: vector for _, image_id, _, vector in rows}
        folder = IndexFolder(self.library.indexes_dir, "color")
        if live:
            reader = IndexReader(folder)
            queries = np.stack([np.frombuffer(vector, "<f4") for vector in live.values()])
            _, near = reader.search(queries, len(live), 64)
            with Registry.open_for_reading(self.library.registry_path) as registry:
                exact = ExactScores(registry, reader.manifest.members)
                scores, found = rescore(exact, queries, near, len(live))
            assert all(set(row) == set(live) for row in found.tolist())
            assert np.allclose(scores, -np.sort(-(queries @ queries.T), axis=1), rtol=0, atol=1e-5)
        shards = [read_shard(path) for path in list_shards(self.library.shards_dir)]
        held = {h: v.tobytes() for shard in shards for h, v in zip(shard.content_hashes, shard.vectors, strict=True)}
        assert held == {HASHES[n]: VECTORS[n] for n in HASHES if HASHES[n] in held}
        assert set(held) >= {HASHES[number] for number in self.files.values()}
        assert not list(self.library.root.rglob(".tmp-*"))


LifeOfALibrary.TestCase.settings = settings(max_examples=30, stateful_step_count=20)
TestLifeOfALibrary = LifeOfALibrary.TestCase
