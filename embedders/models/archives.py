"""Archives of others, as DreamSim, torch and NumPy have them: none unpacks to more than weights do."""

import os
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

from imgrec.embedders.errors import ModelFileError

# Trained weights hardly shrink when they are packed; deflate makes a thousandth of zeros.
_MOST_TIMES = 10
_ALWAYS_FINE = 64 * 2**20


def check_unpacked_size(file: BinaryIO, name: str) -> None:
    """Look at what an archive says that it holds, and unpack nothing; what is no archive passes.

    Raises:
        ModelFileError: it holds far more than weights that could be packed into so small a file.
    """
    try:
        with ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except BadZipFile:
        return  # who reads it says so
    packed = file.seek(0, os.SEEK_END)
    file.seek(0)
    if unpacked > max(_ALWAYS_FINE, _MOST_TIMES * packed):
        raise ModelFileError(
            f"{name} is no archive of weights: its {packed:,} bytes unpack to {unpacked:,}; get another copy"
        )
