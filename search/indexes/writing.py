"""Writing arrays and FAISS indexes so that a full disk is told as such."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray


def write_faiss(path: Path, index: faiss.Index) -> None:
    """Write what `faiss.write_index` writes to a path; that does not tell when the last bytes find no space."""
    failures: list[OSError] = []
    with open(path, "wb") as file:

        def write(data: bytes) -> None:
            try:
                file.write(data)
            except OSError as error:
                failures.append(error)
                raise

        try:
            faiss.write_index(index, faiss.PyCallbackIOWriter(write))
        except Exception:
            if failures:
                raise failures[0] from None
            raise


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write what `np.save` writes; that loses the reason when a disk is full."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).data)
