"""Many queries → vectors: pictures by all cores, models in batches, in the order in which they were asked."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby, islice
from time import perf_counter

from imgrec.embedders.base import Vectors
from imgrec.embedders.work.faults import Refused
from imgrec.embedders.work.forward import ForwardStage
from imgrec.embedders.work.worker import IMAGES_PER_PART
from imgrec.search.errors import QueryError
from imgrec.search.pictures import Picture, file_of, name_of, read_picture
from imgrec.search.queries import Query, QueryEmbedder, is_id
from imgrec.search.query_worker import Asked, QueryPart, embed_pictures, fail_picture, key_of
from imgrec.storage.machine.pool import WorkerPool, available_cpus, map_batches
from imgrec.storage.photos.decoding import decoder_failure

# So many pictures are embedded in this process before others are started, which takes as long.
FIRST_ALONE = 16
_IDS_AT_ONCE = 256


class ManyPictures:
    """Worker processes for query pictures: started for many of them, kept for more. For any number of threads."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._pool: WorkerPool | None = None

    def close(self) -> None:
        with self._starting:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None

    def embed_each(
        self, embedder: QueryEmbedder, queries: Iterable[Picture], all_scores: bool, identify: bool
    ) -> Iterator[list[Query | QueryError]]:
        """Yield what `embedder.embed` makes of each query, or why not, some at a time and in order, as they are ready.

        Queries are asked for no further ahead than all cores need to have work.
        """
        one = partial(_embed_one, embedder, all_scores, identify)
        alone = 0 if isinstance(queries, Sequence) and len(queries) > FIRST_ALONE else FIRST_ALONE
        for by_id, run in groupby(queries, is_id):
            if not by_id:
                yield from self._embed_run(embedder, run, all_scores, one, alone)
                continue
            while some := list(islice(run, _IDS_AT_ONCE)):
                yield list(map(one, some))

    def _embed_run(
        self,
        embedder: QueryEmbedder,
        pictures: Iterator[Picture],
        all_scores: bool,
        one: Callable[[Picture], Query | QueryError],
        alone: int,
    ) -> Iterator[list[Query | QueryError]]:
        """Embed pictures one by one, and those that come after `alone` of them by all cores."""
        for number, picture in enumerate(pictures):
            if number == alone or self._pool is not None:
                yield from self._embed_pictures(embedder, chain([picture], pictures), all_scores)
            else:
                yield [one(picture)]

    def _embed_pictures(
        self, embedder: QueryEmbedder, pictures: Iterator[Picture], all_scores: bool
    ) -> Iterator[list[Query | QueryError]]:
        pool, recipe = self._running_pool(), embedder.recipe(all_scores)
        stage = ForwardStage(embedder.embedders(all_scores), embedder.machine)
        in_flight = max(2 * pool.workers, 2 * -(-stage.images_wanted // IMAGES_PER_PART))
        files: dict[int, tuple[str, str | None]] = {}

        def batches() -> Iterator[list[Asked]]:
            numbered = enumerate(pictures)
            while some := list(islice(numbered, IMAGES_PER_PART)):
                asked = [Asked(number, name_of(picture), _sendable(picture)) for number, picture in some]
                files.update((number, (name_of(picture), file_of(picture))) for number, picture in some)
                yield asked

        def blame(asked: Asked, death: Exception) -> QueryPart:
            reason = decoder_failure(death, embedder.limits.decode_timeout_s)
            return pool.submit(fail_picture, recipe, asked, str(reason)).result()

        started = perf_counter()
        for part in stage.finish(map_batches(pool, partial(embed_pictures, recipe), batches(), in_flight, blame)):
            assert isinstance(part, QueryPart)  # what the stage was given
            embed_ms = (perf_counter() - started) * 1e3 / len(part.numbers)
            rows = _rows_by_picture(part)
            yield [_query_of(embedder, part, number, rows, files.pop(number), embed_ms) for number in part.numbers]
            started = perf_counter()

    def _running_pool(self) -> WorkerPool:
        with self._starting:
            if self._pool is None:
                self._pool = WorkerPool(available_cpus(), preload=["imgrec.search.query_worker"])
            return self._pool


def _embed_one(embedder: QueryEmbedder, all_scores: bool, identify: bool, query: Picture) -> Query | QueryError:
    try:
        return embedder.embed(query, all_scores, identify)
    except QueryError as error:
        return error


def _rows_by_picture(part: QueryPart) -> dict[bytes, dict[str, Vectors | Refused]]:
    found: dict[bytes, dict[str, Vectors | Refused]] = {key: {} for key in part.content_hashes}
    for modality, rows in part.rows.items():
        for key, refused in part.refused.get(modality, {}).items():
            found[key][modality] = refused
        for key, row in zip(part.taken(modality), rows, strict=True):
            found[key][modality] = row
    return found


def _query_of(
    embedder: QueryEmbedder,
    part: QueryPart,
    number: int,
    rows: Mapping[bytes, Mapping[str, Vectors | Refused]],
    named: tuple[str, str | None],
    embed_ms: float,
) -> Query | QueryError:
    if (error := part.errors.get(number)) is not None:
        return QueryError(error)
    try:
        return embedder.describe(*named, rows[key_of(number)], (0.0, embed_ms), part.digests.get(number))
    except QueryError as nothing:
        return nothing


def _sendable(picture: Picture) -> Picture:
    """Read an open file, which no other process can."""
    return read_picture(picture) if hasattr(picture, "read") else picture
