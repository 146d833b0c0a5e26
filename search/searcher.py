"""Queries → hits: the library call behind the command, the task and the flow."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Unpack

from imgrec.embedders.machine import Machine
from imgrec.search.answering import Request
from imgrec.search.answers import Answer, Hit
from imgrec.search.asking import Asking
from imgrec.search.errors import QueryError
from imgrec.search.filters import as_filter
from imgrec.search.indexes.vectors import Vectors
from imgrec.search.many_pictures import ManyPictures
from imgrec.search.narrowing import Narrowing
from imgrec.search.pictures import Picture
from imgrec.search.queries import Limits, Query
from imgrec.search.selecting import Selection
from imgrec.search.serving import OpenIndex, Serving
from imgrec.search.terms import Term
from imgrec.search.weights import weights_of
from imgrec.storage.library import Library, open_library
from imgrec.storage.registry.registry_pool import RegistryPool

# With weights of their own, searches look at no fewer candidates of each modality (benchmarks.fusion).
EF_WITH_WEIGHTS = 128


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
        self, queries: Sequence[Picture], top_k: int = 10, all_scores: bool = False, **asking: Unpack[Asking]
    ) -> list[Answer]:
        """Find the `top_k` images most like each query: an image file's path, its bytes, the open file, RGB pixels
        ((H, W, 3) uint8), or `id:N` of the library.

        With `all_scores`, hits of image files carry the scores of every modality that the library has, not only of
        the index's; those of `id:N` always do. What else may be asked for is in `Asking`.

        Raises:
            QueryError: a query is neither a readable image nor a known id, or has none of the modalities that count;
                or there are weights for modalities that the index has not.
            FilterError: `where` is no condition on images.
        """
        request = self._request(top_k, asking)
        prepared: list[Query] = []
        for some in self._many.embed_each(request.current.queries, queries, all_scores, request.selection.not_itself):
            for query in some:
                if isinstance(query, QueryError):
                    raise query
                prepared.append(query)
        return request.answer(prepared)

    def search_each(
        self, queries: Iterable[Picture], top_k: int = 10, all_scores: bool = False, **asking: Unpack[Asking]
    ) -> Iterator[Answer | QueryError]:
        """Answer as `search` does, each query in its turn, as soon as its answer is ready; one that cannot be answered
        yields its error instead, and the others go on.

        `queries` may be endless, and is read no further ahead than all cores need to have work. All are answered from
        one version of the index.

        Raises:
            FilterError: `where` is no condition on images.
        """
        request = self._request(top_k, asking)
        for some in self._many.embed_each(request.current.queries, queries, all_scores, request.selection.not_itself):
            checked = [query if isinstance(query, QueryError) else request.check(query) for query in some]
            answers = iter(request.answer([query for query in checked if isinstance(query, Query)]))
            for query in checked:
                yield query if isinstance(query, QueryError) else next(answers)

    def search_terms(self, terms: Sequence[Term], top_k: int = 10, **asking: Unpack[Asking]) -> Answer:
        """Find the `top_k` images most like one mixture of words and pictures.

        Scores are cosines to the weighted sum of the terms' unit vectors, one sum a modality. `not_itself` is meant of
        all pictures in the mixture; what else may be asked for is in `Asking`.

        Raises:
            QueryError: a picture is neither readable nor a known id, or the terms cancel each other out.
            IndexNotFoundError: there are words, and this index does not read text.
            FilterError: `where` is no condition on images.
        """
        request = self._request(top_k, asking)
        return request.answer([request.current.queries.embed_terms(terms, request.selection.not_itself)])[0]

    def search_vectors(self, vectors: Vectors, top_k: int = 10, **asking: Unpack[Asking]) -> list[list[Hit]]:
        """Find the `top_k` images nearest to each row of `vectors`: (N, dim of the index) float32, L2 norm 1.

        Hits of a combined index carry no scores of its modalities here, and rows have their weights in them. Open the
        Searcher with the index' name: without one, another index may become the library's default, of another dim.

        Raises:
            QueryError: the vectors are not of the index' dim.
            FilterError: `where` is no condition on images.
        """
        request = self._request(top_k, asking)
        current = request.current
        if vectors.ndim != 2 or vectors.shape[1] != current.manifest.dim:
            shape, dim = " × ".join(map(str, vectors.shape)), current.manifest.dim
            raise QueryError(f"vectors of shape {shape}: index {current.folder.name} is searched for rows of {dim}")
        return request.hits(vectors)

    def _request(self, top_k: int, asking: Asking) -> Request:
        current, where = self._serving.current(), as_filter(asking.get("where"))
        allowed = None if where is None else self._narrowing.allowed(where, current.reader)
        selection = Selection(asking.get("not_itself", False), asking.get("collapse_copies", False), allowed)
        weights = asking.get("weights")
        shares = (
            None
            if weights is None
            else weights_of(weights, [m.modality for m in current.members], current.library.modalities)
        )
        ef_search = self._ef_of(current, weights is not None)
        return Request(current, self._registries, ef_search, top_k, selection, shares, asking.get("expand", False))

    def _ef_of(self, current: OpenIndex, weighted: bool = False) -> int:
        """How many candidates are looked at: more with other weights than those that a graph was built for."""
        tuned = current.manifest.ef_search
        return self._ef_search or (max(tuned, EF_WITH_WEIGHTS) if weighted else tuned)
