"""Models that can be fetched: where their files are, and under which licence."""

import difflib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.extras import DREAMSIM, OPENCLIP, check_learned
from imgrec.embedders.models.downloads import Progress, Remote, download
from imgrec.embedders.models.dreamsim_types import PREFIX
from imgrec.embedders.models.openclip_config import CONFIG, known_config, licence_of
from imgrec.embedders.models.openclip_files import WEIGHTS, describe_model, store_weights
from imgrec.embedders.models.packaged import refuse_packaged
from imgrec.embedders.models.store import StoredModel, check_model_name, find_model, stage

# Told a file's name, its bytes so far, and its bytes at the end, where they are known.
FileProgress = Callable[[str, int, int | None], None]

HUB, OPENAI = "hub", "openai"


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face Hub: the first of these names that is there."""

    repo: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class UrlFile:
    """A file anywhere. Where nobody publishes its SHA-256, `Source.finish` has to notice that it is damaged."""

    url: str
    sha256: str | None


@dataclass(frozen=True)
class Source:
    """How a model is fetched.

    `finish(folder, downloaded, origin)` makes a staged folder of what was downloaded, with model.json last, and raises
    ModelFileError if that is no such model.
    """

    name: str
    files: tuple[HubFile | UrlFile, ...]
    finish: Callable[[Path, Sequence[Path], str], StoredModel]


def find_source(name: str, preferred: str = HUB) -> Source:
    """Find out how a model is fetched.

    Raises:
        ModelFileError: nobody publishes a model of this name.
        MissingExtraError: the libraries that know it are not installed.
    """
    refuse_packaged(name)
    check_learned(name, DREAMSIM if name.startswith(PREFIX) else OPENCLIP)
    if name.startswith(PREFIX):
        return _dreamsim_source(name)
    return _openclip_source(check_model_name(name), preferred)


def fetch_model(
    models_root: Path, name: str, preferred: str = HUB, on_progress: FileProgress = lambda name, done, total: None
) -> StoredModel:
    """Bring a model into the store, if it is not there, whole; an interrupted fetch is gone on with.

    Raises:
        ModelFileError: there is no such model, its files cannot be had, or are not what they should be.
    """
    source = find_source(name, preferred)
    with stage(models_root, name) as folder:
        with suppress(ModelFileError):  # missing, or damaged: then it is fetched
            (found := find_model(models_root, name)).check()
            return found
        downloads = models_root / f".{name}.downloads"
        downloads.mkdir(exist_ok=True)
        paths, origins = [], []
        for file in source.files:
            remote, target, origin = _locate(file, downloads)
            if not target.exists():
                download(remote, target, _named(target.name, on_progress))
            paths.append(target)
            origins.append(origin)
        try:
            source.finish(folder, paths, ", ".join(dict.fromkeys(origins)))
        except ModelFileError:
            shutil.rmtree(downloads)  # whole, and no such model
            raise
        # Whatever else ends it (Ctrl-C, a full disk) leaves them to the next call.
        shutil.rmtree(downloads)
    return find_model(models_root, name)


def _named(name: str, on_progress: FileProgress) -> Progress:
    return lambda done, total: on_progress(name, done, total)


def _locate(file: HubFile | UrlFile, folder: Path) -> tuple[Remote, Path, str]:
    """Find out where a file is right now, where it goes to, and what to say of where it is from."""
    if isinstance(file, UrlFile):
        return Remote(file.url, file.sha256), folder / file.url.rpartition("/")[2], file.url
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # public, but not in its __all__

    for name in file.names:
        url = hf_hub_url(file.repo, name)
        try:
            found = get_hf_file_metadata(url)
        except EntryNotFoundError:
            continue
        except (OfflineModeIsEnabled, HFValidationError) as error:
            raise ModelFileError(f"{url}: {error}") from error
        except Exception as error:  # which HTTP library it uses is its own matter
            if not type(error).__module__.startswith(("httpx", "huggingface_hub")):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            remedy = "run this where there is a network, or `imgrec models add` a copy"
            raise ModelFileError(f"{url} is not to be had ({reason}): {remedy}") from error
        digest = found.etag or ""
        if len(digest) not in (40, 64):
            raise ModelFileError(f"{url}: the server names no digest of this file, so it could not be verified")
        same_host = found.location.startswith(url[: url.index(file.repo)])
        headers = {
            key: value for key, value in build_hf_headers().items() if key == "authorization" and same_host
        }  # a signed address elsewhere is not to get the token
        origin = f"{url.partition('/resolve/')[0]}/tree/{found.commit_hash}"
        # The digest is in the name: a file that changes at its source is another one.
        target = folder / f"{digest[:16]}-{Path(name).name}"
        return Remote(found.location, digest, found.size, headers), target, origin
    raise ModelFileError(f"{file.repo} on the Hugging Face Hub has no {' or '.join(file.names)}")


def _dreamsim_source(name: str) -> Source:
    from imgrec.embedders.models.dreamsim_adding import download_urls, store_downloads

    def finish(folder: Path, paths: Sequence[Path], origin: str) -> StoredModel:
        return store_downloads(folder, name, paths, origin)

    return Source(name, tuple(UrlFile(url, None) for url in download_urls(name)), finish)


def _openclip_source(name: str, preferred: str) -> Source:
    from open_clip.pretrained import get_pretrained_cfg

    arch, _, tag = name.rpartition(".")
    if (config := known_config(name)) is None:
        near = _near(name)
        hint = f": {', '.join(near)}?" if near else "; `imgrec models add` takes a model of your own"
        raise ModelFileError(f"open_clip publishes no {name}{hint}")
    published = get_pretrained_cfg(arch, tag)
    licence = licence_of(name) or "see where it is from"

    def finish(folder: Path, paths: Sequence[Path], origin: str) -> StoredModel:
        (folder / CONFIG).write_text(json.dumps(config, indent=2))
        (weights,) = paths
        if weights.suffix == ".safetensors":
            _keep_both(weights, folder / WEIGHTS)
        else:
            store_weights(weights, folder)
        return describe_model(folder, name, licence, origin)

    if preferred == OPENAI:
        url = published["url"]
        if "openaipublic" not in url:
            raise ModelFileError(f"{name} is not OpenAI's: leave out --source")
        return Source(name, (UrlFile(url, url.split("/")[-2]),), finish)
    # As open_clip.pretrained.download_pretrained does it: org/repo/file, or org/repo/ for the usual names.
    repo, _, file = published["hf_hub"].rpartition("/")
    plain = file or "open_clip_pytorch_model.bin"
    safe = "open_clip_model.safetensors" if not file else f"{plain.rpartition('.')[0]}.safetensors"
    return Source(name, (HubFile(repo, tuple(dict.fromkeys([safe, plain]))),), finish)


def _keep_both(downloaded: Path, stored: Path) -> None:
    """Store a download that stays where it is until all is well: under a second name, or else as a copy."""
    try:
        stored.hardlink_to(downloaded)
    except OSError:  # file systems without hard links have several words for it
        shutil.copyfile(downloaded, stored)


def _near(name: str) -> list[str]:
    """Names that are fetched: those of this architecture, or else those that look like it."""
    from open_clip.pretrained import list_pretrained

    taken = []
    for pair in list_pretrained():
        with suppress(ModelFileError):  # one that is not offered
            known_config(known := ".".join(pair))
            taken.append(known)
    return [known for known in taken if known.startswith(f"{name}.")][:3] or difflib.get_close_matches(name, taken, 3)
