"""Which library an ingest works on, and whether the settings fit it."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from imgrec.conf.errors import SettingsError
from imgrec.conf.settings import Settings
from imgrec.embedders.base import LearnedEmbedder
from imgrec.embedders.catalogue import (
    MODEL_SETTINGS,
    WITHOUT_CHOICE,
    check_modality,
    create_embedders,
    find_stored_model,
)
from imgrec.embedders.devices import find_place
from imgrec.embedders.errors import UnknownEmbedderError
from imgrec.embedders.extras import INSTALL_LEARNED, OPENCLIP, missing_of
from imgrec.embedders.models.store import model_names
from imgrec.flows.pipeline.roots import new_roots, planned_roots
from imgrec.storage.errors import VectorSettingsError
from imgrec.storage.library import Library, create_library, is_library, open_library
from imgrec.storage.machine.atomic import TEMPORARY_PREFIX
from imgrec.storage.machine.lock import HOLDER
from imgrec.storage.photos.roots import Roots

# Of a new library: colours, patterns, and what is shown, by the best model that is there.
DEFAULT_MODALITIES = ("color", "sift")
MODEL_IF_THERE, MODEL_ALWAYS_THERE = "openclip", "efficientnet"


def library_for(settings: Settings, photos_moved: bool = False, reembed: bool = False) -> Library:
    """Open the library of these settings, or make it; `preview_library` says which one, and what it refuses.

    What changes is saved, but for where photos are: that is the library's when a scan of it was accepted. What a folder
    is called is saved with its former name, until `settle_names`.
    """
    planned = preview_library(settings, photos_moved, reembed)
    if not is_library(settings.library):
        return create_library(planned.root, planned.roots, planned.modalities, planned.vector_settings, planned.walking)
    kept = open_library(settings.library)
    saved = planned.with_roots(_renamed_only(kept.roots, planned.roots))
    if saved != kept:
        saved.save()
    return planned


def preview_library(settings: Settings, photos_moved: bool = False, reembed: bool = False) -> Library:
    """The library as `library_for` would give it, without making or changing anything on disk.

    With `photos_moved` the library takes the new folder of photos, with `reembed` the new vector settings.

    Raises:
        SettingsError: a modality that is asked for does not exist, or the library's folder holds other things.
        PhotoRootError: the folder of photos is not there, or is not the library's.
        VectorSettingsError: a setting that changes vectors is not the library's.
    """
    _check_asked(settings.modalities or ())
    planned = _with_changes(settings, photos_moved, reembed) if is_library(settings.library) else _new(settings)
    if settings.exclude is not None:
        planned = replace(planned, exclude=settings.exclude)
    if settings.follow_links is not None:
        planned = replace(planned, follow_links=settings.follow_links)
    create_embedders(planned.modalities, planned.vector_settings, planned.models_dir)
    return planned


def describe_choice(library: Library, settings: Settings) -> str:
    """Say which modalities a new library was made with, and how it would have got better ones."""
    names = [
        f"{name} ({library.vector_settings[MODEL_SETTINGS[name][0]]['name']})" if name in MODEL_SETTINGS else name
        for name in library.modalities
    ]
    told = f"a new library, which keeps these modalities: {', '.join(names)}"
    if settings.modalities is None and MODEL_IF_THERE not in library.modalities:
        install = f"`{INSTALL_LEARNED}`, " if missing_of(OPENCLIP) else ""
        told += (
            f"; {install}`imgrec models fetch {shlex.quote(settings.openclip_model)}`, then "
            f"`imgrec ingest --modality {MODEL_IF_THERE}`, adds one that sees more and reads text"
        )
    return told


def check_device(library: Library, device: str) -> None:
    """Look whether the device that the library's models are to run on is there, and what they need of an extra.

    Imports torch only where the device may not be there.

    Raises:
        DeviceError: it is not.
        MissingExtraError: a library that a modality needs there is not installed.
    """
    embedders = create_embedders(library.modalities, library.vector_settings, library.models_dir)
    learned = [embedder for embedder in embedders.values() if isinstance(embedder, LearnedEmbedder)]
    for embedder in learned:
        embedder.check_libraries(device)
    if learned and device not in ("auto", "cpu"):
        find_place(device)


def _check_asked(modalities: Iterable[str]) -> None:
    """What a library has and is not installed any more is no mistake of whoever asks; this is."""
    try:
        for modality in modalities:
            check_modality(modality)
    except UnknownEmbedderError as error:
        raise SettingsError(str(error)) from None


def _renamed_only(kept: Roots, planned: Roots) -> Roots:
    names = {old: new for old, new in planned.renamed.items() if old in kept.folders}
    return Roots({names.get(name, name): folder for name, folder in kept.folders.items()}, planned.renamed)


def _new(settings: Settings) -> Library:
    roots = new_roots(settings)
    if settings.library.is_dir() and any(_is_foreign(entry.name) for entry in settings.library.iterdir()):
        raise SettingsError(f"library = {settings.library}: this folder holds other things; name an empty or new one")
    library = Library(settings.library, "", 0, "", _modalities(settings), _vector_settings(settings), "")
    return library.with_roots(roots)


def _is_foreign(name: str) -> bool:
    """Whether a file is none of those that a first ingest has before library.json; one may be under way."""
    return name not in (".lock", HOLDER) and not name.startswith(TEMPORARY_PREFIX)


def _with_changes(settings: Settings, photos_moved: bool, reembed: bool) -> Library:
    library = open_library(settings.library)
    library = library.with_roots(planned_roots(library, settings, photos_moved))
    modalities = tuple(dict.fromkeys([*library.modalities, *(settings.modalities or ())]))
    cards = _cards(settings, modalities[len(library.modalities) :])
    planned = replace(library, modalities=modalities, vector_settings={**library.vector_settings, **cards})
    differing = _differing(planned, settings, reembed)
    if differing and not reembed:
        raise VectorSettingsError(_refusal(planned, differing))
    return replace(planned, vector_settings={**planned.vector_settings, **differing})


def _modalities(settings: Settings) -> tuple[str, ...]:
    if settings.modalities:
        return settings.modalities
    there = settings.openclip_model in model_names(settings.models_root) and not missing_of(OPENCLIP)
    return (*DEFAULT_MODALITIES, MODEL_IF_THERE if there else MODEL_ALWAYS_THERE)


def _vector_settings(settings: Settings) -> dict[str, Any]:
    """Those of a new library: where a modality's model is in the store, its card and not its name alone."""
    return {**settings.vector_settings(), **_cards(settings, _modalities(settings))}


def _cards(settings: Settings, modalities: Iterable[str]) -> dict[str, Any]:
    found = [modality for modality in modalities if modality in MODEL_SETTINGS]
    named = {modality: getattr(settings, MODEL_SETTINGS[modality][0]) for modality in found}
    return {
        MODEL_SETTINGS[modality][0]: find_stored_model(modality, name, settings.models_root).card
        for modality, name in named.items()
    }


def _differing(library: Library, settings: Settings, reembed: bool) -> dict[str, Any]:
    """The settings that change vectors and are given otherwise than the library has them."""
    kept = _kept(library)
    given = settings.given_vector_settings()
    differing = {name: value for name, value in given.items() if kept.get(name) != value}
    for modality in set(library.modalities) & MODEL_SETTINGS.keys():
        setting, prefix = MODEL_SETTINGS[modality]
        named = getattr(settings, setting)
        if setting not in settings.model_fields_set or (kept[setting]["name"] == prefix + named and not reembed):
            continue
        card = find_stored_model(modality, named, settings.models_root).card if reembed else named
        if card != kept[setting]:
            differing[setting] = card
    return differing


def _kept(library: Library) -> Mapping[str, Any]:
    return {**WITHOUT_CHOICE, **library.vector_settings}


def _refusal(library: Library, differing: dict[str, object]) -> str:
    kept = _kept(library)
    told = "; ".join(f"{name} = {value}, but {_told(kept.get(name))} there" for name, value in differing.items())
    flags = " ".join(f"--{name.replace('_', '-')} {shlex.quote(_flag(value))}" for name, value in differing.items())
    return (
        f"the vectors of {library.root} were made with other settings ({told}): to embed all its images anew, "
        f"run `imgrec reembed --library {shlex.quote(str(library.root))} {flags}`"
    )


def _told(value: object) -> object:
    return value["name"] if isinstance(value, dict) else value


def _flag(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
