"""Any life of an index, against brute force over the vectors that live."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from imgrec.search.indexes import adding
from imgrec.search.indexes.hits import NO_ID
from imgrec.search.indexes.layout import IndexFolder
from tests.search.libraries import VectorLibrary, exact_scores, open_vector_library, random_rows, search_exactly

DIM = 8
QUERIES = random_rows(6, DIM, seed=99)


class LifeOfAnIndex(RuleBasedStateMachine):
    """`live` is what the next update has to find; up to 60 vectors, treated like many."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.home = Path(tempfile.mkdtemp(prefix="imgrec-"))
        for name, value in (("FULL_ROWS", dict.fromkeys(adding.FULL_ROWS, 4)), ("MERGE_FACTOR", 2)):
            self.stack.enter_context(mock.patch.object(adding, name, value))
        self.library: VectorLibrary = self.stack.enter_context(open_vector_library(self.home, DIM))
        self.rows: dict[int, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
        self.live: set[int] = set()
        self.published = False
        self.seed = 0

    def teardown(self) -> None:
        self.stack.close()
        shutil.rmtree(self.home)

    @precondition(lambda self: len(self.rows) < 50)
    @rule(count=st.integers(1, 10), in_shard=st.booleans(), again=st.booleans())
    def add(self, count: int, in_shard: bool, again: bool) -> None:
        self.seed += 1
        rows = random_rows(count, DIM, self.seed)
        if again and self.rows:  # a picture that is there already
            rows[0] = self.rows[min(self.rows)]
        ids = self.library.add(rows, in_shard)
        self.rows |= dict(zip(ids, rows, strict=True))
        self.live |= set(ids)

    @precondition(lambda self: self.live)
    @rule(share=st.sampled_from([0.1, 0.3, 1.0]), first=st.integers(0, 100))
    def delete(self, share: float, first: int) -> None:
        order = sorted(self.live)
        start = first % len(order)
        gone = (order[start:] + order[:start])[: max(1, int(share * len(order)))]
        self.library.mark(gone, missing=True)
        self.live -= set(gone)

    @precondition(lambda self: len(self.live) < len(self.rows))
    @rule(count=st.integers(1, 20))
    def bring_back(self, count: int) -> None:
        back = sorted(self.rows.keys() - self.live)[:count]
        self.library.mark(back, missing=False)
        self.live |= set(back)

    @rule()
    def update(self) -> None:
        report = self.library.update_or_nothing()
        if report is None:
            assert not self.published
            assert not self.live
            return
        self.published = True
        assert report.manifest.live == len(self.live)
        assert self.library.update().action == "unchanged"
        self.check()

    def check(self) -> None:
        folder: IndexFolder = self.library.folder
        live = {image_id: self.rows[image_id] for image_id in self.live}
        assert len(folder.read_manifest().segments) <= 7
        for k in (1, 5, 60):
            scores, ids = search_exactly(self.library, QUERIES, k)
            assert np.allclose(scores, exact_scores(live, QUERIES, k), rtol=0, atol=1e-6)
            for some in ids.tolist():
                found = [image_id for image_id in some if image_id != NO_ID]
                assert len(set(found)) == len(found) == min(k, len(live))
                assert set(found) <= self.live


LifeOfAnIndex.TestCase.settings = settings(max_examples=40, stateful_step_count=15)
TestLifeOfAnIndex = LifeOfAnIndex.TestCase
