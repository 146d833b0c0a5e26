"""What many query pictures cost in one call, against one call each: 400 JPEGs of 2 megapixels (100 with --quick).

many_vs_one_color, many_vs_one_efficientnet   pictures a second of one `Searcher.search` of all, its worker processes
                                              running, as a multiple of those of calls of one; 2 cores can make it 2
"""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import DEFAULTS, Metric, report, scratch, timed, wants_quick
from benchmarks.pictures import real_pictures, write_pictures
from imgrec.conf.settings import Settings
from imgrec.flows.pipeline import ingesting
from imgrec.search import Searcher
from imgrec.search.pictures import Picture
from imgrec.tasks.calls import PlainCalls

MODALITIES = ("color", "efficientnet")


def write_queries(folder: Path, count: int) -> list[Picture]:
    """Write `count` distinct JPEGs of 1,600 × 1,200 or a little less."""
    folder.mkdir()
    random, sources = np.random.default_rng(0), real_pictures()
    for number in range(count):
        left, top = (int(side) for side in random.integers(0, 200, 2))
        with Image.open(sources[number % len(sources)]) as picture:
            crop = picture.convert("RGB").resize((1_600, 1_200)).crop((left, top, 1_600, 1_200))
        crop.save(folder / f"{number:04d}.jpg", quality=88)
    return [*sorted(folder.iterdir())]


def main() -> None:
    count = 100 if wants_quick(__doc__) else 400
    metrics, details = {}, {"pictures": f"{count:,}"}
    with scratch("queries") as folder:
        queries = write_queries(folder / "queries", count)
        write_pictures(folder / "photos")
        chosen = Settings.load(images_root=folder / "photos", library=folder / "library", modalities=list(MODALITIES))
        ingesting.ingest(chosen, PlainCalls(DEFAULTS.retries))
        for index in MODALITIES:
            with Searcher(folder / "library", index) as searcher:
                searcher.search(queries[:32])  # starts the workers, and loads the model
                many_s = timed(lambda: searcher.search(queries))
                one_s = timed(lambda: [searcher.search([query]) for query in queries])
            metrics[f"many_vs_one_{index}"] = Metric(one_s / many_s)
            details[index] = f"{count / many_s:,.0f} pictures a second at once, {count / one_s:,.0f} one at a time"
    report("queries", metrics, details)


if __name__ == "__main__":
    main()
