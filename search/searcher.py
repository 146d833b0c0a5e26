"""Queries → hits: the library call behind the command, the task and the flow."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imgrec.embedders.machine import Machine
from imgrec.search.answering import Request
from imgrec.search.answers import Answer, Hit
from imgrec.search.errors import QueryError
from imgrec.search.filters import FilterLike, as_filter
from imgrec.search.indexes.segment import Vectors
from imgrec.search.many_pictures import ManyPictures
from imgrec.search.narrowing import Narrowing
from imgrec.search.pictures import Picture
from imgrec.search.queries import Limits, Query
from imgrec.search.selecting import Selection
from imgrec.search.serving import OpenIndex, Serving
from imgrec.search.terms import Term
from imgrec.storage.library import Library, open_library
from imgrec.storage.registry.registry_pool import RegistryPool


class Searcher:
    """Answers queries from a library's index. Keeps it open; a version published meanwhile is taken up by itself.

    Where no index is named it is the one of most modalities that is not damaged, or `for_text` the one that reads text;
    when that becomes another one, or the library gets modalities, it is followed within a second.

    Any number of threads may share one: each call answers from one version, whatever is published meanwhile. Close it
    in the end, or use it in a `with` block; calls that are under way then finish.

    Raises:
        LibraryNotFoundError: there is no library.
        IndexNotFoundError: it has no index of this name, or none that reads text.
    """

    def __init__(
        self,
        library: Path | str,
        index: str | None = None,
        ef_search: int | None = None,
        max_megapixels: float = 256,
        decode_timeout_s: float = 60,
        machine: Machine = Machine(),
        for_text: bool = False,
    ) -> None:
        root, limits = Path(library), Limits(max_megapixels, decode_timeout_s)
        self._ef_search = ef_search
        registry_path = open_library(root).registry_path
        self._registries = RegistryPool(registry_path)
        self._narrowing = Narrowing(registry_path)
        self._many = ManyPictures()
        try:
            self._serving = Serving(root, index, for_text, limits, machine, self._registries)
        except BaseException:
            self._registries.close()
            raise

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the index and the registry; twice does no harm. A call after it raises SearcherClosedError."""
        self._serving.close()
        self._registries.close()
        self._narrowing.close()
        self._many.close()

    @property
    def library(self) -> Library:
        return self._serving.open.library

    @property
    def index(self) -> str:
        return self._serving.open.folder.name

    @property
    def photos(self) -> int:
        """How many photos the index has, and so an answer hits at most."""
        return self._serving.open.manifest.live

    @property
    def ef_search(self) -> int:
        return self._ef_of(self._serving.open)

    def search(
        self,
        queries: Sequence[Picture],
        top_k: int = 10,
        all_scores: bool = False,
        where: FilterLike | None = None,
        not_itself: bool = False,
        collapse_copies: bool = False,
    ) -> list[Answer]:
        """Find the `top_k` images most like each query: an image file's path, its bytes, the open file, RGB pixels
        ((H, W, 3) uint8), or `id:N` of the library.

        With `all_scores`, hits of image files carry the scores of every modality that the library has, not only of
        the index's; those of `id:N` always do. Hits are photos that `where` allows, a Filter or a condition in SQL.
        With `not_itself` the query's own photo is none: that of `id:N`, or those with the content of a file or bytes.
        With `collapse_copies` photos of equal content are one hit, whose `copies` counts them.

        Raises:
            QueryError: a query is neither a readable image nor a known id.
            FilterError: `where` is no condition on images.
        """
        request = self._request(top_k, where, not_itself, collapse_copies)
        prepared: list[Query] = []
        for some in self._many.embed_each(request.current.queries, queries, all_scores, not_itself):
            for query in some:
                if isinstance(query, QueryError):
                    raise query
                prepared.append(query)
        return request.answer(prepared)

    def search_each(
        self,
        queries: Iterable[Picture],
        top_k: int = 10,
        all_scores: bool = False,
        where: FilterLike | None = None,
        not_itself: bool = False,
        collapse_copies: bool = False,
    ) -> Iterator[Answer | QueryError]:
        """Answer as `search` does, each query in its turn, as soon as its answer is ready; one that cannot be answered
        yields its error instead, and the others go on.

        `queries` may be endless, and is read no further ahead than all cores need to have work. All are answered from
        one version of the index.

        Raises:
            FilterError: `where` is no condition on images.
        """
        request = self._request(top_k, where, not_itself, collapse_copies)
        for some in self._many.embed_each(request.current.queries, queries, all_scores, not_itself):
            answers = iter(request.answer([query for query in some if isinstance(query, Query)]))
            for query in some:
                yield query if isinstance(query, QueryError) else next(answers)

    def search_terms(
        self,
        terms: Sequence[Term],
        top_k: int = 10,
        where: FilterLike | None = None,
        not_itself: bool = False,
        collapse_copies: bool = False,
    ) -> Answer:
        """Find the `top_k` images most like one mixture of words and pictures.

        Scores are cosines to the weighted sum of the terms' unit vectors, one sum a modality. `where`, `not_itself` (of
        all pictures in the mixture) and `collapse_copies` are as in `search`.

        Raises:
            QueryError: a picture is neither readable nor a known id, or the terms cancel each other out.
            IndexNotFoundError: there are words, and this index does not read text.
            FilterError: `where` is no condition on images.
        """
        request = self._request(top_k, where, not_itself, collapse_copies)
        return request.answer([request.current.queries.embed_terms(terms, not_itself)])[0]

    def search_vectors(
        self, vectors: Vectors, top_k: int = 10, where: FilterLike | None = None, collapse_copies: bool = False
    ) -> list[list[Hit]]:
        """Find the `top_k` images nearest to each row of `vectors`: (N, dim of the index) float32, L2 norm 1.

        Hits of a combined index carry no scores of its modalities here. Open the Searcher with the index' name: without
        one, another index may become the library's default, of another dim. The rest is as in `search`.

        Raises:
            QueryError: the vectors are not of the index' dim.
            FilterError: `where` is no condition on images.
        """
        request = self._request(top_k, where, False, collapse_copies)
        current = request.current
        if vectors.ndim != 2 or vectors.shape[1] != current.manifest.dim:
            shape, dim = " × ".join(map(str, vectors.shape)), current.manifest.dim
            raise QueryError(f"vectors of shape {shape}: index {current.folder.name} is searched for rows of {dim}")
        return request.hits(vectors)

    def _request(self, top_k: int, where: FilterLike | None, not_itself: bool, collapse_copies: bool) -> Request:
        current, asked = self._serving.current(), as_filter(where)
        allowed = None if asked is None else self._narrowing.allowed(asked, current.reader)
        selection = Selection(not_itself, collapse_copies, allowed)
        return Request(current, self._registries, self._ef_of(current), top_k, selection)

    def _ef_of(self, current: OpenIndex) -> int:
        return self._ef_search or current.manifest.parameters["ef_search"]
