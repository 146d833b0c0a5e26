"""Which photos a filter allows, kept for the next search as long as nobody writes to the registry."""

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from imgrec.search.filters import Filter
from imgrec.search.indexes.allowed import Allowed
from imgrec.search.indexes.opening import Reader
from imgrec.search.indexes.vectors import Ids
from imgrec.storage.registry.conditions import ImageConditions

# So many filters are kept, each in a bit to ten bytes a photo, as its index has copies or it allows few.
KEPT = 8


class Narrowing:
    """Finds what filters allow, for any number of threads. Close it in the end."""

    def __init__(self, registry_path: Path) -> None:
        self._registry_path = registry_path
        self._one_at_a_time = threading.Lock()
        self._conditions: ImageConditions | None = None
        self._kept: OrderedDict[tuple[Filter, Reader], Allowed] = OrderedDict()
        self._closed = False
        self._state = 0  # of the registry, which all that is kept holds for

    def close(self) -> None:
        """Let go of the registry; a call that is under way, or comes from one, still gets its answer."""
        with self._one_at_a_time:
            self._closed = True
            self._let_go()

    def _let_go(self) -> None:
        self._kept.clear()
        if self._conditions is not None:
            self._conditions.close()
            self._conditions = None

    def allowed(self, where: Filter, reader: Reader) -> Allowed:
        """What `reader` may answer with.

        Raises:
            FilterError: the condition of the filter is wrong.
        """
        with self._one_at_a_time:
            if self._conditions is None:
                self._conditions = ImageConditions(self._registry_path)
            if (state := self._conditions.state()) != self._state:
                self._kept.clear()
                self._state = state
            key = where, reader
            if (found := self._kept.get(key)) is None:
                found = self._kept[key] = reader.allow(_ids_of(where, self._conditions))
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            if self._closed:
                self._let_go()
            return found


def _ids_of(where: Filter, conditions: ImageConditions) -> Ids:
    for sql in where.sql:
        conditions.check(sql)
    wanted = None if where.ids is None else np.unique(np.asarray(where.ids, np.int64))
    if wanted is not None and not where.conditions:
        return wanted
    found = conditions.ids(where.conditions)
    return found if wanted is None else found[np.isin(found, wanted)]
