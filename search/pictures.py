"""What a query picture may be: a file, its bytes, an open file, or pixels."""

import os
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgrec.search.errors import QueryError
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.probe import read_regular

Picture: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | NDArray[np.uint8]


def name_of(picture: Picture) -> str:
    """What an answer calls a query: its path as given, or what it is where it has none."""
    if isinstance(picture, str | os.PathLike):
        return os.fspath(picture)
    if isinstance(picture, np.ndarray):
        return f"pixels {' × '.join(map(str, picture.shape))}"
    if isinstance(picture, bytes):
        return f"{len(picture):,} bytes"
    name = getattr(picture, "name", None)
    return name if isinstance(name, str) else "an open file"


def read_picture(picture: Picture, name: str | None = None) -> bytes | NDArray[np.uint8]:
    """Read the bytes of a query picture; pixels are taken as they are. Errors call it by `name`.

    Raises:
        QueryError: it cannot be read, or the pixels are of another form.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
            raise QueryError(
                f"query {name_of(picture)} of {picture.dtype}: give RGB pixels, (height, width, 3) of uint8"
            )
        return picture
    try:
        return _read(picture)
    except OSError as error:
        raise QueryError(
            f"query {printable(name or name_of(picture))} cannot be read ({error.strerror or error}): "
            "give the path of an image, or id:N for an image of the library"
        ) from error


def file_of(picture: Picture) -> str | None:
    """The absolute path of a query's file; None where it was given no file by name."""
    return str(_path_of(os.fspath(picture)).absolute()) if isinstance(picture, str | os.PathLike) else None


def _path_of(query: str) -> Path:
    try:
        return Path(query).expanduser()
    except RuntimeError:  # ~name of nobody: then it is a file of that name
        return Path(query)


def _read(picture: str | os.PathLike[str] | bytes | BinaryIO) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | os.PathLike):
        return read_regular(_path_of(os.fspath(picture)))[0]
    data = picture.read()
    if not isinstance(data, bytes):
        raise QueryError(f"query {name_of(picture)} is open as text: open it in binary mode, as in open(path, 'rb')")
    return data
