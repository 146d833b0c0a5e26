"""A library on disk: every path in it, and the few facts that hold for its whole life (library.json)."""

import json
import os
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgrec.storage.errors import LibraryFormatError, LibraryNotFoundError
from imgrec.storage.machine.atomic import write_atomic
from imgrec.storage.photos.roots import Roots, one_root
from imgrec.storage.photos.walk import Walking

# A library whose photos are in one folder without a name is of format 1, which earlier versions read.
FORMAT_VERSION = 2
# No file of a job's takes longer to write.
JOBS_WRITE_S = 600.0
# Weights of learned embedders, which are large and the same for all libraries.
DEFAULT_MODELS_ROOT = Path(os.path.expanduser("~/.local/share/imgrec/models"))  # noqa: PTH111 - Path's may raise


@dataclass(frozen=True)
class Library:
    """The one owner of every path in a library.

    Its photos are in `images_root`, or where their folders have names, in `images_roots`; `roots` is either.
    `renamed_roots` maps former names to present ones until the registry has these.

    `vector_settings` are the settings that change vectors, kept from the library's creation on; `exclude` and
    `follow_links` are how its photos are looked for, kept until others are named.
    """

    root: Path
    uuid: str
    format_version: int
    images_root: str
    modalities: tuple[str, ...]
    vector_settings: Mapping[str, Any]
    created: str
    exclude: tuple[str, ...] = ()
    follow_links: bool = False
    images_roots: Mapping[str, str] = field(default_factory=dict)
    renamed_roots: Mapping[str, str] = field(default_factory=dict)

    @property
    def roots(self) -> Roots:
        return Roots(self.images_roots or {"": self.images_root}, self.renamed_roots)

    @property
    def walking(self) -> Walking:
        return Walking(self.exclude, self.follow_links)

    @property
    def registry_path(self) -> Path:
        return self.root / "registry.sqlite"

    @property
    def shards_dir(self) -> Path:
        return self.root / "shards"

    @property
    def indexes_dir(self) -> Path:
        return self.root / "indexes"

    @property
    def maps_dir(self) -> Path:
        return self.root / "maps"

    @property
    def thumbnails_dir(self) -> Path:
        return self.root / "thumbnails"

    @property
    def models_dir(self) -> Path:
        """What was trained for this library, named by content hash."""
        return self.root / "models"

    @property
    def chunks_dir(self) -> Path:
        """Where the work of the running ingest is described, one file a chunk."""
        return self.root / "chunks"

    @property
    def submissions_dir(self) -> Path:
        """Where chunks are that a cluster works on, with all that belongs to their jobs, a folder a run."""
        return self.root / "submissions"

    @property
    def temporaries_rest_s(self) -> float:
        """How long a temporary file must have rested to be a killed writer's: jobs may be at work in a submission."""
        return JOBS_WRITE_S if self.submissions_dir.is_dir() else 0

    @property
    def mlflow_path(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts_dir(self) -> Path:
        return self.root / "mlflow-artifacts"

    @property
    def postponed_runs_dir(self) -> Path:
        """Runs that MLflow has not got yet."""
        return self.root / "mlflow-postponed"

    @property
    def settings_file(self) -> Path:
        return self.root / "imgrec.toml"

    def save(self) -> None:
        # Left out, so that older versions read it as well.
        defaults = {"exclude": (), "follow_links": False, "images_root": "", "images_roots": {}, "renamed_roots": {}}
        facts = {key: value for key, value in asdict(self).items() if key != "root" and defaults.get(key, ...) != value}
        write_atomic(_facts_path(self.root), json.dumps(facts, indent=2).encode())

    def with_images_root(self, images_root: Path) -> "Library":
        """Return and save this library for photos that moved to `images_root`."""
        moved = replace(self, images_root=os.fspath(images_root))
        moved.save()
        return moved

    def with_roots(self, roots: Roots) -> "Library":
        """Return this library for photos in these folders, and do not save it."""
        if not roots.are_named:
            return replace(self, images_root=roots.folders[""], images_roots={}, renamed_roots={}, format_version=1)
        folders, renamed = dict(roots.folders), dict(roots.renamed)
        return replace(self, images_root="", images_roots=folders, renamed_roots=renamed, format_version=2)

    def with_vector_settings(self, vector_settings: Mapping[str, Any]) -> "Library":
        """Return and save this library with settings that give its images new vectors at the next ingest."""
        changed = replace(self, vector_settings=dict(vector_settings))
        changed.save()
        return changed

    def with_modalities(self, modalities: tuple[str, ...]) -> "Library":
        """Return and save this library with another set of modalities to compute."""
        changed = replace(self, modalities=modalities)
        changed.save()
        return changed


def create_library(
    root: Path,
    photos: Path | Roots,
    modalities: tuple[str, ...],
    vector_settings: Mapping[str, Any],
    walking: Walking = Walking(),
) -> Library:
    """Make an empty library; library.json is written last, so that half a library is none."""
    library = Library(
        root=root,
        uuid=str(uuid.uuid4()),
        format_version=1,
        images_root="",
        modalities=modalities,
        vector_settings=dict(vector_settings),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        exclude=walking.exclude,
        follow_links=walking.follow_links,
    ).with_roots(photos if isinstance(photos, Roots) else one_root(photos))
    root.mkdir(parents=True, exist_ok=True)
    library.save()
    return library


def is_library(root: Path) -> bool:
    return _facts_path(root).is_file()


def open_library(root: Path) -> Library:
    """Read library.json.

    Raises:
        LibraryNotFoundError: there is no library at `root`.
        LibraryFormatError: it is damaged, or of a newer format than this program knows.
    """
    path = _facts_path(root)
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise LibraryNotFoundError(
            f"no library at {root}: make one with `imgrec ingest PHOTOS --library {shlex.quote(str(root))}`"
        ) from None
    except NotADirectoryError:
        raise LibraryNotFoundError(f"no library at {root}: there is a file; name a folder") from None
    except ValueError as error:
        raise LibraryFormatError(f"{path} is damaged ({error}): restore it from a backup") from error
    version = facts.get("format_version") if isinstance(facts, dict) else None
    if not isinstance(version, int):
        raise LibraryFormatError(f"{path} is not a library.json: restore it from a backup")
    if version > FORMAT_VERSION:
        raise LibraryFormatError(
            f"{root} has format {version}, this imgrec knows up to {FORMAT_VERSION}: upgrade image-recommender"
        )
    try:
        lists = {name: tuple(facts.get(name, ())) for name in ("modalities", "exclude")}
        if facts.get("images_roots"):
            facts["images_root"] = ""
        return Library(root=root, **facts | lists | {"vector_settings": renamed_settings(facts["vector_settings"])})
    except (AttributeError, KeyError, TypeError) as error:
        raise LibraryFormatError(f"{path} is not a library.json ({error}): restore it from a backup") from error


def renamed_settings(vector_settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored settings by their present names: a library, or an index, may have been written before."""
    return {"sift_codebook" if name == "sift_model" else name: value for name, value in vector_settings.items()}


def _facts_path(root: Path) -> Path:
    return root / "library.json"
