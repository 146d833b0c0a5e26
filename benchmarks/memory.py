"""How the memory of an ingest grows with the library.

bytes_per_image     peak resident size of the driver process at an ingest of 200,000 photos beyond that at an ingest of
                    50,000, per image. The peak of the whole flow up to the index stage: scan, chunks, shards, BLOB
                    mirror, merging of shards. What an index takes is in `benchmarks.index`.

With --quick 20,000 and 5,000, which is too few to tell growth from noise.
"""

from pathlib import Path
from unittest.mock import patch

from benchmarks.harness import Metric, call_fresh, peak_bytes, report, scratch, wants_quick, write_tiny_photos


def ingest_without_index(photos: str, library: str) -> dict[str, float]:
    """Run the flow in this process, its index stage left out; return the peak before that stage, and its seconds."""
    from imgrec.flows.ingest_images import ingest_images
    from imgrec.flows.pipeline import ingesting

    peaks = []

    def skip(*_: object) -> dict[str, object]:
        peaks.append(peak_bytes())
        return {}

    with patch.object(ingesting, "index_stage", skip):
        done = ingest_images(Path(photos), Path(library), ["color"])
    return {"peak": peaks[0], "images": done.images["ok"], "seconds": done.seconds["scan"] + done.seconds["embed"]}


def main() -> None:
    quick = wants_quick(__doc__)
    measured = []
    for count in (5_000, 20_000) if quick else (50_000, 200_000):
        with scratch("memory") as folder:
            write_tiny_photos(folder / "photos", count)
            measured.append(call_fresh(ingest_without_index, folder / "photos", folder / "library"))
    small, large = measured
    growth = (large["peak"] - small["peak"]) / (large["images"] - small["images"])
    details = {
        f"peak at {facts['images']:,} images": f"{facts['peak'] / 1e6:,.1f} MB, {facts['seconds']:.0f} s"
        for facts in measured
    }
    report("memory", {"bytes_per_image": Metric(growth, 400)}, details)


if __name__ == "__main__":
    main()
