"""The folder of models that all libraries share. A model appears in it whole or not at all, and is verified when read.

MODELS_ROOT/<name>/model.json    what it is, and the SHA-256 of its files
MODELS_ROOT/<name>/…             its files, each in its original layout
MODELS_ROOT/.<name>.staged/      a model on its way in
"""

import hashlib
import json
import logging
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.models.published import is_published
from imgrec.storage.machine.atomic import sync, write_atomic
from imgrec.storage.machine.bounded import read_small

FACTS_FILE = "model.json"
FORMAT_VERSION = 1
LOCAL_DIR = "local-dir:"  # what open_clip has before a folder
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFile:
    """A file of a model, by its path inside of the model's folder."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class StoredModel:
    """A model in the store. `facts` are what changes its vectors beside its weights, as JSON has it."""

    name: str
    modality: str
    dim: int
    facts: Mapping[str, Any]
    licence: str
    origin: str
    files: tuple[ModelFile, ...]
    folder: Path

    @property
    def digest(self) -> str:
        """16 hex digits over the content of its files and its facts."""
        contents = sorted((file.path, file.sha256) for file in self.files)
        return hashlib.sha256(json.dumps([contents, dict(self.facts)], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def card(self) -> dict[str, Any]:
        """What a library keeps of it: enough for an embedder's spec, without any file of the model."""
        return {"name": self.name, "digest": self.digest, "dim": self.dim, **self.facts}

    @property
    def size(self) -> int:
        return sum(file.bytes for file in self.files)

    def check(self) -> None:
        """Read all files and compare their SHA-256.

        Raises:
            ModelFileError: one is missing, or is not what was stored.
        """
        for file in self.files:
            path = self.folder / file.path
            try:
                found = describe_file(path, self.folder)
            except OSError as error:
                raise ModelFileError(f"{path} cannot be read ({error.strerror}): {_remedy(self.name)}") from error
            if found != file:
                raise ModelFileError(f"{path} is not the file that was stored: {_remedy(self.name)}")

    def read(self, path: str) -> bytes:
        """Return the content of one file, verified.

        Raises:
            ModelFileError: it is missing, or is not what was stored.
        """
        (file,) = (file for file in self.files if file.path == path)
        try:
            data = (self.folder / path).read_bytes()
        except OSError as error:
            raise ModelFileError(
                f"{self.folder / path} cannot be read ({error.strerror}): {_remedy(self.name)}"
            ) from error
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise ModelFileError(f"{self.folder / path} is not the file that was stored: {_remedy(self.name)}")
        return data

    def save(self) -> None:
        """Write model.json; the files are there already."""
        facts = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_atomic(
            self.folder / FACTS_FILE, json.dumps({"format_version": FORMAT_VERSION, **facts}, indent=2).encode()
        )


def find_model(models_root: Path, name: str, digest: str | None = None) -> StoredModel:
    """Find the model of this name, and of this digest if one is given; reads none of its weights.

    Raises:
        ModelFileError: it is not there, or another one is; the message names the command that fetches it.
    """
    path = models_root / check_model_name(name) / FACTS_FILE
    try:
        facts = json.loads(read_small(path))
        files = tuple(ModelFile(**file) for file in facts.pop("files"))
        version = facts.pop("format_version")
        if version > FORMAT_VERSION:
            raise ModelFileError(f"{path} has format {version}: upgrade image-recommender")
        model = StoredModel(**facts, files=files, folder=path.parent)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFileError(f"model {name} is not in {models_root}: {_remedy(name)}") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): {_remedy(name)}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{path} is damaged ({error}): {_remedy(name)}") from error
    if digest is not None and model.digest != digest:
        raise ModelFileError(
            f"{path.parent} is another {name} ({model.digest}) than the vectors were made with ({digest}): "
            "put that one back, or give all images new vectors with `imgrec reembed`"
        )
    return model


def model_names(models_root: Path) -> list[str]:
    """List the names of the models that are there, damaged ones too."""
    return sorted(path.parent.name for path in models_root.glob(f"[!.]*/{FACTS_FILE}"))


def list_models(models_root: Path) -> list[StoredModel]:
    """Read what is said of all models that are there; verifies no file.

    Raises:
        ModelFileError: a model.json is damaged.
    """
    return [find_model(models_root, name) for name in model_names(models_root)]


def check_model_name(name: str) -> str:
    """Return `name` if a folder may be called so.

    Raises:
        ModelFileError: it may not.
    """
    if name.startswith(LOCAL_DIR):
        folder = shlex.quote(name.removeprefix(LOCAL_DIR))
        raise ModelFileError(f"{name} is a folder: `imgrec models add NAME {folder}` first, then give NAME")
    if not _NAME.fullmatch(name):
        raise ModelFileError(f"{name!r} is no name of a model: letters, digits and . _ - are allowed")
    return name


@contextmanager
def stage(models_root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder to fill with a model's files, and `StoredModel.save` last; then it becomes the model.

    One process at a time, the others wait. When the block raises or saves nothing, nothing is stored.

    Raises:
        ModelFileError: the folder of models cannot be written.
    """
    final, folder = models_root / check_model_name(name), models_root / f".{name}.staged"
    with _locked(models_root, name):
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        if (replaced := _replaced(folder)).exists() and not final.exists():  # killed halfway through `_publish`
            replaced.rename(final)
        folder.mkdir()
        try:
            yield folder
            if (folder / FACTS_FILE).exists():
                _publish(folder, final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def refuse_to_replace(models_root: Path, new: StoredModel) -> None:
    """Look whether storing a model would take another one away, which libraries may have vectors of.

    Raises:
        ModelFileError: it would; one that is damaged serves nobody.
    """
    try:
        (there := find_model(models_root, new.name)).check()
    except ModelFileError:
        return
    if there.digest != new.digest:
        raise ModelFileError(
            f"{models_root} has another {new.name}, whose libraries would need it: give this one a name of its own, "
            "or --replace that one"
        )


def describe_file(path: Path, folder: Path) -> ModelFile:
    """Read a file to its end, and say what it is."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return ModelFile(path.relative_to(folder).as_posix(), stream.tell(), digest)


def describe_files(folder: Path) -> tuple[ModelFile, ...]:
    """Describe all files below a staged folder, but for model.json."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FACTS_FILE)
    return tuple(describe_file(path, folder) for path in paths)


@contextmanager
def _locked(models_root: Path, name: str) -> Iterator[None]:
    try:
        models_root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(models_root / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("another process stores %s: waiting for it", name)
            lock.acquire()
    except OSError as error:
        raise ModelFileError(
            f"{models_root} cannot be written ({error.strerror}): "
            "name another folder of models with models_root, or ask whoever owns it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _publish(folder: Path, final: Path) -> None:
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
    replaced = _replaced(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    folder.rename(final)
    sync(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _replaced(folder: Path) -> Path:
    """Where the old model is while the new one takes its place: a folder cannot do that in one step."""
    return folder.with_suffix(".replaced")


def _remedy(name: str) -> str:
    add = f"`imgrec models add {name} PATH` with a copy"
    fetch = f"run `imgrec models fetch {name}` where there is a network, or {add}"
    return fetch if is_published(name) else f"run {add}"
