"""Make `library-format-1`: a library as the first release leaves it, of three tiny photos.

It is there so that later releases can be tested on it. So it is made once, by the release whose format is 1, with
`python -m tests.data.make_library_format_1`, and never again once that release is out.
"""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from imgrec.storage.library import FORMAT_VERSION, create_library
from imgrec.storage.registry.registry import Registry
from tests.search.libraries import PARAMETERS, ingest
from tests.storage.pictures import backdate

FOLDER = Path(__file__).parent / "library-format-1"
PHOTOS = FOLDER / "photos"
# Where the photos were: a library knows its folder of photos by its absolute path.
ORIGINAL_ROOT = Path("/photos")
VECTOR_SETTINGS = {"bins": [2, 2, 2], "decode_min_side": 448}


def make_photo(number: int) -> bytes:
    """A PNG of some hundred bytes."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 12, 3), np.uint8)
    pixels[..., number] //= 4
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    if FORMAT_VERSION != 1:
        raise SystemExit("this program writes another format than 1")
    shutil.rmtree(FOLDER, ignore_errors=True)
    for number, name in enumerate(("a.png", "b.png", "sub/c.png")):
        path = PHOTOS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_photo(number))
        backdate(path)
    library = create_library(FOLDER / "library", PHOTOS, ("color",), VECTOR_SETTINGS)
    ingest(library, replace(PARAMETERS, hnsw_m=4))
    library.with_images_root(ORIGINAL_ROOT)
    with Registry.open_for_writing(library.registry_path) as registry:
        registry.connection.execute("VACUUM")


if __name__ == "__main__":
    main()
