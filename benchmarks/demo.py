"""`make demo`: the whole way from photos to answers, with the commands that a user would type."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.pictures import write_pictures
from imgrec.tasks.tracking import sqlite_uri

DEMO = Path(".demo")
QUERY = "copies/coffee-cropped.jpg"


def main() -> int:
    """Write pictures, ingest them, search with one of them; return the exit code of the first command that failed."""
    console = Console(highlight=False)
    photos, library, preview = DEMO / "photos", DEMO / "library", DEMO / "hits.png"
    pictures = write_pictures(photos)
    console.print(f"{len(pictures)} pictures from installed packages, and near-copies of them, are in {photos}/")
    console.print("[dim]The first run starts Prefect on a new database, which can take half a minute.[/dim]")
    for command in (
        ["imgrec", "ingest", str(photos), "--library", str(library)],
        ["imgrec", "search", str(photos / QUERY), "--library", str(library), "--preview", str(preview)],
    ):
        console.print(f"\n[bold green]$[/bold green] {shlex.join(command)}")
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        code = subprocess.run(command, env=environment, check=False).returncode
        if code:
            return code
    bin_dir, database = Path(sys.executable).parent, sqlite_uri(library.resolve() / "mlflow.db")
    console.print(
        f"\nlibrary   {library.resolve()}"
        f"\npreview   {preview.resolve()}"
        f"\nMLflow    {shlex.join([str(bin_dir / 'mlflow'), 'ui', '--backend-store-uri', database])}"
        f"\n\nNow with your own photos:\n  {shlex.quote(str(bin_dir / 'imgrec'))} ingest ~/Pictures",
        soft_wrap=True,
        markup=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
