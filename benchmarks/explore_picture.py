"""Make docs/explore.png: the page of `imgrec explore` on the pictures of the demo, as a browser shows it.

    python -m benchmarks.explore_picture

Needs Chromium (`apt-get install chromium`).
"""

import shutil
import sys
from pathlib import Path

from benchmarks.harness import BENCH, imgrec, run, scratch
from benchmarks.pictures import write_pictures

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_PICTURE = Path(__file__).parent.parent / "docs" / "explore.png"
# Milliseconds of the page's own clock, which runs ahead while nothing happens.
_WAIT_MS = 20_000


def main() -> int:
    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print("no Chromium found: apt-get install chromium", file=sys.stderr)
        return 1
    plain = {"IMGREC_ORCHESTRATE": "none"}
    with scratch("explore") as folder:
        write_pictures(folder / "photos")
        imgrec("ingest", folder / "photos", "--library", folder / "library", variables=plain)
        page, drawn = folder / "map.html", folder / "map.png"
        where = ("--library", folder / "library", "--index", "efficientnet", "--output", page)
        print(imgrec("explore", *where, variables=plain))
        run(
            *(
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--enable-unsafe-swiftshader",
                "--hide-scrollbars",
            ),
            *("--window-size=1280,800", f"--virtual-time-budget={_WAIT_MS}", f"--screenshot={drawn}", page.as_uri()),
        )
        shutil.copyfile(drawn, _PICTURE)
    print(f"{_PICTURE.relative_to(BENCH.parent)} is made")
    return 0


if __name__ == "__main__":
    sys.exit(main())
