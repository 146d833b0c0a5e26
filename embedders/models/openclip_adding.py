"""Put an own model of open_clip into the store: a folder in its `local-dir:` layout, or a checkpoint, all stated."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.extras import OPENCLIP, check_learned
from imgrec.embedders.models.openclip_config import (
    CONFIG,
    STATED,
    architecture,
    check_preprocessing,
    known_config,
    licence_of,
    make_config,
    read_config,
)
from imgrec.embedders.models.openclip_files import describe_model, find_weights, store_weights
from imgrec.embedders.models.packaged import refuse_packaged
from imgrec.embedders.models.store import StoredModel, find_model, refuse_to_replace, stage


@dataclass(frozen=True)
class Stated:
    """What somebody says of a checkpoint; None is not said. `like` is a published `arch.tag` that it agrees with."""

    arch: str | None = None
    quick_gelu: bool | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: str | None = None
    resize_mode: str | None = None
    like: str | None = None

    @property
    def preprocessing(self) -> dict[str, Any]:
        return {key: value for key in STATED if (value := getattr(self, key)) is not None}


def add_openclip(
    models_root: Path,
    name: str,
    path: Path,
    stated: Stated = Stated(),
    licence: str | None = None,
    replace: bool = False,
) -> StoredModel:
    """Store a model under a name; what it is called decides nothing, unless open_clip publishes an `arch.tag` of it.

    Raises:
        ModelFileError: something is not stated or contradicts itself; the file is damaged, not finite, or of another
            architecture; or another model of that name is there, and not to be replaced. Nothing is stored then.
    """
    refuse_packaged(name)
    check_learned(name, OPENCLIP)
    if not path.exists():
        raise ModelFileError(f"{path} is not there")
    config = _of_folder(name, path, stated) if path.is_dir() else _of_file(name, path, stated)
    weights = find_weights(path) if path.is_dir() else path
    licence = licence or (licence_of(name) if known_config(name) else None) or "not stated"
    with stage(models_root, name) as folder:
        (folder / CONFIG).write_text(json.dumps(config, indent=2))
        store_weights(weights, folder)
        model = describe_model(folder, name, licence, f"added from {path.resolve()}", weights)
        if not replace:
            refuse_to_replace(models_root, model)
    return find_model(models_root, name)


def _of_file(name: str, path: Path, stated: Stated) -> dict[str, Any]:
    from open_clip import get_model_config, list_models

    check_preprocessing(stated.preprocessing)
    published = _published(stated.like) if stated.like else known_config(name)
    if stated.arch is None and published is None:
        raise ModelFileError(f"{path}: name its architecture with --arch, or a published model it is --like")
    if stated.arch is None:
        assert published is not None
        model = published["model_cfg"]
    else:
        model = get_model_config(stated.arch)
        if model is None:
            near = ", ".join(difflib.get_close_matches(stated.arch, list_models(), 3)) or "see open_clip.list_models()"
            raise ModelFileError(f"--arch {stated.arch}: open_clip has no such architecture ({near})")
    known = {} if published is None else published["preprocess_cfg"]
    _refuse_other_architecture(stated.like or name, model, published)
    gelu = _agreed_gelu(name, model, published, stated)
    _refuse_contradiction(stated.like or name, known, stated.preprocessing)
    preprocessing = {**known, **stated.preprocessing}
    return _complete(name, make_config(model, gelu, preprocessing) if gelu is not None else None, preprocessing)


def _of_folder(name: str, path: Path, stated: Stated) -> dict[str, Any]:
    config = read_config(path)
    for said in (config["preprocess_cfg"], stated.preprocessing):
        check_preprocessing(said)
    published = _published(stated.like) if stated.like else known_config(name)
    if stated.arch is not None:
        raise ModelFileError(f"{path / CONFIG} states the architecture: leave out --arch")
    _refuse_other_architecture(stated.like or name, config["model_cfg"], published)
    gelu = _agreed_gelu(name, config["model_cfg"], published, stated)
    inside = {key: config["preprocess_cfg"][key] for key in STATED if config["preprocess_cfg"].get(key) is not None}
    _refuse_contradiction(str(path / CONFIG), inside, stated.preprocessing)
    known = {} if published is None else published["preprocess_cfg"]
    _refuse_contradiction(stated.like or name, known, {**inside, **stated.preprocessing})
    preprocessing = {**config["preprocess_cfg"], **known, **inside, **stated.preprocessing}
    return _complete(
        name, make_config(config["model_cfg"], gelu, preprocessing) if gelu is not None else None, preprocessing
    )


def _published(name: str) -> dict[str, Any]:
    if (config := known_config(name)) is None:
        raise ModelFileError(f"--like {name}: open_clip publishes no such `arch.tag`")
    return config


def _refuse_other_architecture(name: str, model: Mapping[str, Any], published: Mapping[str, Any] | None) -> None:
    if published is None:
        return
    known, given = architecture(published["model_cfg"]), architecture(model)
    other = [key for key in {**known, **given} if known.get(key) != given.get(key)]
    if other:
        differ = ", ".join(f"{key} {given.get(key)} instead of {known.get(key)}" for key in other[:3])
        raise ModelFileError(f"this is another architecture than {name} ({differ}): give it a name of its own")


def _agreed_gelu(
    name: str, model: Mapping[str, Any], published: Mapping[str, Any] | None, stated: Stated
) -> bool | None:
    """Whether it is QuickGELU, by all who say so: they have to agree. An architecture without it says nothing."""
    said = {
        "--quick-gelu": stated.quick_gelu,
        "the architecture": model.get("quick_gelu"),
        "the published model": None if published is None else published["model_cfg"]["quick_gelu"],
    }
    values = {value for value in said.values() if value is not None}
    if len(values) > 1:
        told = ", ".join(f"{who} says {'yes' if value else 'no'}" for who, value in said.items() if value is not None)
        raise ModelFileError(f"{name}: is it QuickGELU? {told}")
    return bool(values.pop()) if values else None


def _refuse_contradiction(who: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key in known and _same(known[key]) != _same(value):
            raise ModelFileError(f"{who} says that {key} is {_same(known[key])}, and not {_same(value)}")


def _same(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _complete(name: str, config: dict[str, Any] | None, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    missing = [f"--{key.replace('_', '-')}" for key in STATED if preprocessing.get(key) is None]
    missing = ([] if config is not None else ["--quick-gelu yes|no"]) + missing
    if missing or config is None:
        raise ModelFileError(
            f"{name}: nothing says {', '.join(missing)}; state them, or a published model it is --like"
        )
    return config
