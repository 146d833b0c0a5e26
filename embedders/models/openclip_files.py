"""A model of open_clip as a folder: its config and open_clip_model.safetensors; loaded by open_clip's own code."""

import hashlib
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgrec.embedders.errors import ModelFileError, in_short
from imgrec.embedders.models.archives import check_unpacked_size
from imgrec.embedders.models.openclip_config import STATED, has_foreign_words, read_config, unstated
from imgrec.embedders.models.store import StoredModel, describe_files
from imgrec.storage.machine.quiet import ignore_warnings

WEIGHTS = "open_clip_model.safetensors"
MODALITY = "openclip"
# What open_clip.factory._find_checkpoint_in_dir prefers in a folder, in this order; then safetensors to all others.
_PREFERRED = (
    WEIGHTS, "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth",
    "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
# What TorchScript archives of OpenAI hold beside weights.
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
# What of torch and open_clip reads files of weights, and warns of what they are.
_READERS = r"(torch\.(serialization|_weights_only_unpickler|storage|_utils)|open_clip\.factory)\b"
# What torch, safetensors and open_clip raise when a file is not what they expect.
_LOADING_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OSError, EOFError, StopIteration,
    pickle.UnpicklingError,
)  # fmt: skip


def find_weights(folder: Path) -> Path:
    """The file of weights in a folder that open_clip takes, as long as more than the alphabet says so.

    Raises:
        ModelFileError: there is none, or open_clip would take the first one by the alphabet.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pt", ".pth"))
    preferred = [path for name in _PREFERRED for path in found if path.name == name]
    safe = [path for path in found if path.suffix == ".safetensors"]
    choice = preferred[:1] or safe or found
    if len(choice) != 1:
        names = ", ".join(path.name for path in choice) or "none"
        allowed = f".safetensors, .bin, .pt, .pth; or one called {WEIGHTS}"
        raise ModelFileError(f"{folder} must hold one file of weights ({allowed}), not {names}")
    return choice[0]


def store_weights(source: Path, folder: Path) -> None:
    """Put weights into a staged folder as safetensors: what comes as a pickle is read without running what is in it.

    Raises:
        ModelFileError: they cannot be read.
    """
    from safetensors.torch import save_file

    if _is_safetensors(source):
        shutil.copyfile(source, folder / WEIGHTS)  # and `describe_model` reads it
    else:
        weights = _read_weights(source, source)
        save_file({key: tensor.contiguous().clone() for key, tensor in weights.items()}, folder / WEIGHTS)


def describe_model(folder: Path, name: str, licence: str, origin: str, called: Path | str | None = None) -> StoredModel:
    """Write a config's model.json, after loading the model as embedding does, and trying it on a picture and words.

    `called` is what messages call the weights, if they were somebody's file.

    Raises:
        ModelFileError: something is not stated, the weights are damaged, not finite, or of another architecture.
    """
    import open_clip
    import torch

    called = called or name
    config = read_config(folder)
    if missing := unstated(config):
        raise ModelFileError(f"{name}: {', '.join(missing)} must be stated")
    weights = _read_weights(folder / WEIGHTS, called)
    if has_foreign_words(config["model_cfg"]["text_cfg"]):
        weights = _keep_image_half(weights, folder)
    broken = [key for key, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise ModelFileError(f"weights of {called} are not finite, {broken[0]} among {len(broken)}: get another copy")
    model = load_model(folder, called)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    # open_clip stretches position embeddings to fit, silently.
    for key, tensor in weights.items():
        # Of an older checkpoint it moves what belongs to the text tower.
        shape = shapes.get(key, shapes.get(f"text.{key}"))
        if shape is not None and tensor.numel() != shape.numel():
            raise ModelFileError(
                f"the weights of {called} are of another architecture than its config: {key} is "
                f"{tuple(tensor.shape)} instead of {tuple(shape)}"
            )
    facts = _facts(config, model.visual.preprocess_cfg)
    with torch.inference_mode():
        rows = [model.encode_image(torch.zeros(1, 3, *facts["size"]))[0]]
        if facts["text"]:
            rows.append(model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(["a photo"]))[0])
        if not all(row.isfinite().all() for row in rows):
            raise ModelFileError(f"{called} makes numbers that are not finite: get another copy")
    described = StoredModel(name, MODALITY, len(rows[0]), facts, licence, origin, (), folder)
    described = replace(described, files=describe_files(folder))
    described.save()
    return described


def load_model(folder: Path, called: Path | str | None = None) -> Any:
    """Load a folder by open_clip's own code, in eval mode.

    Raises:
        ModelFileError: the weights are damaged, or of another architecture than the config.
    """
    import open_clip

    try:
        with _no_random_weights(), _no_foreign_words():
            model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True, weights_only=True)
    except _LOADING_ERRORS as error:
        raise ModelFileError(f"{called or folder} is not loaded by open_clip: {in_short(error)}") from error
    return model.eval()


@contextmanager
def _no_random_weights() -> Iterator[None]:
    """Leave out torch's random initialisation, four fifths of the time to make a model whose every weight is loaded."""
    from torch.overrides import TorchFunctionMode

    class Uninitialised(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            named = kwargs or {}
            if getattr(function, "__module__", None) == "torch.nn.init":
                return named["tensor"] if "tensor" in named else args[0]
            return function(*args, **named)

    with Uninitialised():
        yield


@contextmanager
def _no_foreign_words() -> Iterator[None]:
    """Leave out text towers of transformers: making one asks a hub what it is, each time."""
    import open_clip.model
    import torch

    class NoWords(torch.nn.Module):
        context_length = vocab_size = 0

    def build(embed_dim: int, text_cfg: Any, *others: Any, **named: Any) -> Any:
        foreign = has_foreign_words(text_cfg if isinstance(text_cfg, dict) else vars(text_cfg))
        return NoWords() if foreign else original(embed_dim, text_cfg, *others, **named)

    original = open_clip.model._build_text_tower
    open_clip.model._build_text_tower = build
    try:
        yield
    finally:
        open_clip.model._build_text_tower = original


def _keep_image_half(weights: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Store weights without their text tower."""
    from safetensors.torch import save_file

    half = {key: tensor.contiguous() for key, tensor in weights.items() if not key.startswith("text.")}
    save_file(half, folder / f".{WEIGHTS}")  # the file that is there may be a download's too
    (folder / f".{WEIGHTS}").replace(folder / WEIGHTS)
    return half


def _facts(config: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    size = preprocessing["size"]
    text = config["model_cfg"]["text_cfg"]
    return {
        "quick_gelu": bool(config["model_cfg"]["quick_gelu"]),
        "size": [size, size] if isinstance(size, int) else list(size),
        **{key: _plain(preprocessing[key]) for key in (*STATED, "fill_color")},
        # A tokenizer of transformers is files of its own; the one inside of open_clip is there.
        "text": not text.get("hf_tokenizer_name") and not has_foreign_words(text),
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _read_weights(path: Path, called: Path | str) -> dict[str, Any]:
    import torch
    from open_clip.factory import load_state_dict
    from safetensors import SafetensorError

    safe = _is_safetensors(path)
    try:
        if not safe:
            with path.open("rb") as file:
                check_unpacked_size(file, str(called))
        if not safe and _is_published_archive(path):
            ignore_warnings(r"torch\.jit\b", FutureWarning)  # nothing else opens these files
            weights = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
            return {key: tensor for key, tensor in weights.items() if key not in _NO_WEIGHTS}
        ignore_warnings(_READERS, UserWarning)  # what matters raises
        found = load_state_dict(str(path), weights_only=True)
        if any(not isinstance(tensor, torch.Tensor) for tensor in found.values()):
            raise ModelFileError(f"{called} holds more than weights: give a file that has nothing but them")
        return {str(key): tensor for key, tensor in found.items()}
    except (*_LOADING_ERRORS, SafetensorError) as error:
        if isinstance(error, ModelFileError):
            raise
        if safe:
            raise ModelFileError(f"{called} is damaged, or no file of weights ({in_short(error)})") from error
        raise ModelFileError(
            f"{called} is damaged, or no file of weights that can be read without running what is in it "
            f"(torch: {in_short(error)}): save its state_dict with torch.save or as safetensors"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Whether it is called so, or begins so: the length of a JSON object, and that.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror})") from error
    begins_so = head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size
    return begins_so or path.suffix == ".safetensors"


def _is_published_archive(path: Path) -> bool:
    """Whether a file is one of OpenAI's, which are programs for TorchScript: only those are ever opened as such."""
    from open_clip.pretrained import _PRETRAINED

    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return any(f"/{digest}/" in tags.get("openai", {}).get("url", "") for tags in _PRETRAINED.values())
