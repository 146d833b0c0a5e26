"""How models of open_clip get into the store: fetched or added, with everything stated, or not at all."""

import hashlib
import io
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgrec.embedders.errors import EmbedderParameterError, ModelFileError
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities.openclip import OpenClipEmbedder
from imgrec.embedders.models import sources as model_sources
from imgrec.embedders.models.openclip_adding import Stated, add_openclip
from imgrec.embedders.models.openclip_config import known_config
from imgrec.embedders.models.openclip_files import find_weights
from imgrec.embedders.models.sources import OPENAI, fetch_model
from imgrec.embedders.models.store import find_model, list_models
from tests.embedders.learned import photos
from tests.embedders.openclip_files import MEAN, PREPROCESSING, STD, TINY, make_weights, write_folder
from tests.embedders.server import Site, serving

ARCH, TAG = "Tiny-quickgelu", "openai"
NAME = f"{ARCH}.{TAG}"
SAFE, PICKLED = (
    "/timm/tiny/resolve/main/open_clip_model.safetensors",
    "/timm/tiny/resolve/main/open_clip_pytorch_model.bin",
)
ALL_STATED = Stated(quick_gelu=True, mean=MEAN, std=STD, interpolation="bicubic", resize_mode="shortest")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("original") / "tiny")


@pytest.fixture(scope="module")
def archive() -> bytes:
    """The same weights as OpenAI publishes its: in half precision, in a program for TorchScript, with three numbers."""
    import torch

    class Holder(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    def put(module: torch.nn.Module, path: list[str], tensor: torch.Tensor) -> None:
        if len(path) == 1:
            module.register_buffer(path[0], tensor)
            return
        if path[0] not in dict(module.named_children()):
            module.add_module(path[0], Holder())
        put(getattr(module, path[0]), path[1:], tensor)

    holder = Holder()
    numbers = {"input_resolution": 224, "context_length": 20, "vocab_size": 49408}
    for key, tensor in make_weights(TINY).items():
        put(holder, key.split("."), tensor.half())
    for key, number in numbers.items():
        put(holder, [key], torch.tensor(number))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have us export
        torch.jit.save(torch.jit.trace(holder, torch.zeros(1)), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


@pytest.fixture
def site(original: Path, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A hub, and OpenAI's server, that publish a small model under a name that open_clip knows."""
    import open_clip
    from huggingface_hub import constants
    from open_clip.pretrained import _PRETRAINED

    for arch, gelu in ((ARCH, True), ("Tiny", False)):
        model = {key: value for key, value in TINY.items() if key != "quick_gelu"} | (
            {"quick_gelu": True} if gelu else {}
        )
        (tmp_path / f"{arch}.json").write_text(json.dumps(model))
        open_clip.add_model_config(tmp_path / f"{arch}.json")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    url = f"/openaipublic/{hashlib.sha256(archive).hexdigest()}/Tiny.pt"
    weights = (original / "open_clip_model.safetensors").read_bytes()
    with serving(Site({SAFE: weights, url: archive})) as site:
        published = {**PREPROCESSING, "quick_gelu": True, "hf_hub": "timm/tiny/", "url": site.address + url}
        for arch in (ARCH, "Tiny"):
            monkeypatch.setitem(_PRETRAINED, arch, {TAG: published})
        monkeypatch.setattr(constants, "ENDPOINT", site.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", site.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield site


def vectors(models_root: Path, name: str = NAME) -> np.ndarray[Any, Any]:
    embedder = OpenClipEmbedder(find_model(models_root, name).card, 448)
    embedder.load(Machine(models_root, "cpu"))
    return embedder.embed(photos()[:4])


def names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


# Fetched


def test_a_model_is_fetched_from_the_hub_verified_and_known(site: Site, original: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    model = fetch_model(tmp_path / "models", NAME, on_progress=lambda *told: seen.append(told))
    assert (model.modality, model.dim, model.licence) == ("openclip", 48, "MIT (OpenAI CLIP)")
    assert model.origin == f"{site.address}/timm/tiny/tree/c0ffee"
    assert model.facts["quick_gelu"] is True
    assert (model.facts["mean"], model.facts["std"]) == (list(MEAN), list(STD))
    size = len(site.files[SAFE])
    assert seen[-1][0].endswith("open_clip_model.safetensors")
    assert seen[-1][1:] == (size, size)
    assert names(tmp_path / "models") == [NAME]
    assert names(model.folder) == ["model.json", "open_clip_config.json", "open_clip_model.safetensors"]
    add_openclip(tmp_path / "models", "added", original)
    assert np.array_equal(vectors(tmp_path / "models"), vectors(tmp_path / "models", "added"))


def test_what_is_there_is_not_fetched_again_unless_it_is_damaged(site: Site, tmp_path: Path) -> None:
    model = fetch_model(tmp_path, NAME)
    assert fetch_model(tmp_path, NAME) == model
    assert len(site.served) == 1
    (model.folder / "open_clip_config.json").write_text("{}")
    assert fetch_model(tmp_path, NAME) == model
    assert len(site.served) == 2
    model.check()


def test_an_interrupted_fetch_goes_on(site: Site, tmp_path: Path) -> None:
    site.drop_after, site.errors = 10**6, 0
    half = len(site.files[SAFE]) // 2

    class InterruptedError(Exception):
        pass

    def interrupt(name: str, done: int, total: int | None) -> None:
        if done > half:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fetch_model(tmp_path / "models", NAME, on_progress=interrupt)
    assert list_models(tmp_path / "models") == []
    before = len(site.served)
    fetch_model(tmp_path / "models", NAME)
    assert int(site.served[before].removeprefix("bytes=").removesuffix("-")) >= half
    assert names(tmp_path / "models") == [NAME]


@pytest.mark.parametrize("broken_off", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
def test_what_is_downloaded_stays_where_storing_it_breaks_off(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_off: BaseException
) -> None:
    def describe(*_: object) -> None:
        raise broken_off

    with monkeypatch.context() as patched, pytest.raises((KeyboardInterrupt, MemoryError, OSError)):
        patched.setattr(model_sources, "describe_model", describe)
        fetch_model(tmp_path / "models", NAME)
    assert fetch_model(tmp_path / "models", NAME).dim == 48
    assert len(site.served) == 1
    assert names(tmp_path / "models") == [NAME]


def test_wrong_bytes_from_the_hub_are_not_stored(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "digest", lambda path: "0" * 64)
    with pytest.raises(ModelFileError, match="is not the file it should be"):
        fetch_model(tmp_path, NAME)
    assert list_models(tmp_path) == []


def test_a_token_is_sent_to_the_hub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch_model(tmp_path, NAME)
    assert site.tokens[-1] == "Bearer hf_secret"


def test_a_token_is_not_sent_to_where_the_hub_keeps_large_files(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving(Site({SAFE: site.files[SAFE]})) as elsewhere:
        site.elsewhere = elsewhere.address
        fetch_model(tmp_path, NAME)
    assert (site.served, site.tokens) == ([], ["Bearer hf_secret"])
    assert (elsewhere.served, elsewhere.tokens) == ([""], [None])


def test_weights_as_a_pickle_are_taken_where_there_are_no_others(site: Site, tmp_path: Path) -> None:
    import torch

    fetch_model(tmp_path / "safe", NAME)
    buffer = io.BytesIO()
    torch.save(make_weights(TINY), buffer)
    site.files = {PICKLED: buffer.getvalue()}
    model = fetch_model(tmp_path / "pickled", NAME)
    assert names(model.folder) == ["model.json", "open_clip_config.json", "open_clip_model.safetensors"]
    assert np.array_equal(vectors(tmp_path / "safe"), vectors(tmp_path / "pickled"))


def test_openais_own_archive_makes_the_same_model(site: Site, tmp_path: Path) -> None:
    fetch_model(tmp_path / "hub", NAME)
    model = fetch_model(tmp_path / "openai", NAME, OPENAI)
    assert model.origin.startswith(f"{site.address}/openaipublic/")
    assert np.abs(vectors(tmp_path / "hub") - vectors(tmp_path / "openai")).max() < 0.01  # half precision


def test_an_archive_that_openai_did_not_publish_is_not_opened(site: Site, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "Tiny.pt").write_bytes(archive)
    assert add_openclip(tmp_path / "models", NAME, tmp_path / "Tiny.pt").dim == 48
    (tmp_path / "Tiny.pt").write_bytes(archive + b"\0")
    with pytest.raises(ModelFileError, match=r"Tiny\.pt is damaged, or no file .*: it is a program for Torch"):
        add_openclip(tmp_path / "others", NAME, tmp_path / "Tiny.pt")


def test_a_model_that_nobody_publishes_is_told_with_what_is_near(site: Site, tmp_path: Path) -> None:
    with pytest.raises(
        ModelFileError, match=r"^open_clip publishes no ViT-L-14-quickgelu\.opnai: .*ViT-L-14-quickgelu\.openai"
    ):
        fetch_model(tmp_path, "ViT-L-14-quickgelu.opnai")
    with pytest.raises(ModelFileError, match="`imgrec models add`"):
        fetch_model(tmp_path, "xyz")
    for name in ("ViT-B-32", "ViT-B-32.opena", "ViT-L-14.openi"):
        with pytest.raises(ModelFileError) as told:
            fetch_model(tmp_path, name)
        near = str(told.value).partition(": ")[2].rstrip("?").split(", ")
        assert near
        assert all(known_config(known) for known in near)
    site.files = {}
    with pytest.raises(
        ModelFileError, match=r"timm/tiny on the Hugging Face Hub has no open_clip_model\.safetensors or "
    ):
        fetch_model(tmp_path, NAME)
    assert list_models(tmp_path) == []


def test_a_hub_that_is_not_reached_is_told(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(ModelFileError, match=r"^http://127\.0\.0\.1:9/timm/tiny/.* is not to be had \(.*refused"):
        fetch_model(tmp_path, NAME)


def test_a_name_without_quickgelu_is_not_given_weights_that_had_it(site: Site, tmp_path: Path) -> None:
    for use in (fetch_model, lambda root, name: add_openclip(root, name, tmp_path / "Tiny.json")):
        with pytest.raises(ModelFileError, match=r"were trained with QuickGELU.*: Tiny-quickgelu\.openai$"):
            use(tmp_path / "models", f"Tiny.{TAG}")
    with pytest.raises(ModelFileError, match=r"ViT-L-14-quickgelu\.openai$"):
        known_config("ViT-L-14.openai")


def test_every_model_that_open_clip_publishes_is_known_or_refused_with_a_reason() -> None:
    from open_clip.pretrained import list_pretrained

    refused = []
    for arch, tag in list_pretrained():
        try:
            config = known_config(f"{arch}.{tag}")
        except ModelFileError as error:
            refused.append((arch, str(error)))
        else:
            assert config is not None
            assert set(config["preprocess_cfg"]) == {"mean", "std", "interpolation", "resize_mode"}
            assert not str(config["model_cfg"]["vision_cfg"].get("timm_model_name")).startswith("hf-hub:")
    assert len(refused) < 30
    assert all("QuickGELU" in reason for _, reason in refused)


# Added


def test_a_checkpoint_of_which_all_is_stated_is_added(site: Site, original: Path, tmp_path: Path) -> None:
    weights = original / "open_clip_model.safetensors"
    by_flags = add_openclip(tmp_path, "flags", weights, Stated("Tiny", True, MEAN, STD, "bicubic", "shortest"))
    by_name = add_openclip(tmp_path, NAME, weights)
    by_likeness = add_openclip(tmp_path, "like", weights, Stated(like=NAME), "mine")
    assert by_flags.facts == by_name.facts == by_likeness.facts
    assert (by_flags.licence, by_likeness.licence, by_name.licence) == ("not stated", "mine", "MIT (OpenAI CLIP)")
    assert add_openclip(tmp_path, NAME, original, licence="mine", replace=True).licence == "mine"
    assert np.array_equal(vectors(tmp_path, "flags"), vectors(tmp_path, NAME))
    agreed = add_openclip(tmp_path, "agreed", weights, Stated(like=NAME, mean=MEAN, interpolation="bicubic"))
    assert agreed.facts == by_name.facts


def test_a_training_checkpoint_is_taken_for_its_weights(site: Site, original: Path, tmp_path: Path) -> None:
    import torch

    weights = {f"module.{key}": tensor for key, tensor in make_weights(TINY).items()}
    torch.save({"epoch": 9, "state_dict": weights, "optimizer": {"lr": 0.1}}, tmp_path / "epoch_9.pt")
    add_openclip(tmp_path / "models", "trained", tmp_path / "epoch_9.pt", Stated(like=NAME))
    add_openclip(tmp_path / "models", "plain", original)
    assert np.array_equal(vectors(tmp_path / "models", "trained"), vectors(tmp_path / "models", "plain"))


REFUSED: dict[str, tuple[Stated, str]] = {
    "no architecture": (ALL_STATED, "name its architecture with --arch, or a published model it is --like"),
    "unknown architecture": (Stated("Tinny"), r"--arch Tinny: open_clip has no such architecture \(.*Tiny"),
    "nothing": (
        Stated("Tiny"),
        r"nothing says --quick-gelu yes\|no, --mean, --std, --interpolation, --resize-mode; state them",
    ),
    "no mean": (Stated("Tiny", True, None, STD, "bicubic", "shortest"), "nothing says --mean; state them"),
    "no activation": (Stated("Tiny", None, MEAN, STD, "bicubic", "shortest"), r"nothing says --quick-gelu yes\|no;"),
    "two activations": (Stated(ARCH, False, MEAN, STD, "bicubic", "shortest"), "is it QuickGELU"),
    "unlike": (Stated(like=NAME, quick_gelu=False), "is it QuickGELU"),
    "like nothing": (Stated(like="Tiny.none"), r"--like Tiny\.none: open_clip publishes no such"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_stated_is_asked_for(site: Site, original: Path, tmp_path: Path, case: str) -> None:
    stated, message = REFUSED[case]
    with pytest.raises(ModelFileError, match=message):
        add_openclip(tmp_path / "models", "mine", original / "open_clip_model.safetensors", stated)
    assert list_models(tmp_path / "models") == []


def test_what_is_said_of_a_published_name_cannot_be_otherwise(site: Site, original: Path, tmp_path: Path) -> None:
    message = r"^Tiny-quickgelu\.openai says that mean is \[0\.48.*, and not \[0\.5"
    for name, like in ((NAME, None), ("mine", NAME)):
        with pytest.raises(ModelFileError, match=message):
            add_openclip(tmp_path, name, original / "open_clip_model.safetensors", Stated(mean=(0.5,) * 3, like=like))
    folder = write_folder(tmp_path / "silent", TINY, {})
    with pytest.raises(ModelFileError, match=message):
        add_openclip(tmp_path, "mine", folder, Stated(mean=(0.5,) * 3, like=NAME))
    folder = write_folder(tmp_path / "other", TINY, {**PREPROCESSING, "std": (0.5,) * 3})
    with pytest.raises(ModelFileError, match=r"std is \[0\.26.*, and not \[0\.5"):
        add_openclip(tmp_path, NAME, folder)
    folder = write_folder(tmp_path / "gelu", {**TINY, "quick_gelu": False})
    with pytest.raises(ModelFileError, match="is it QuickGELU"):
        add_openclip(tmp_path, NAME, folder)


NONSENSE: dict[str, tuple[dict[str, Any], str]] = {
    "no number": ({"mean": (0.5, float("nan"), 0.5)}, r"mean is \[0\.5, nan, 0\.5\], and has to be three numbers of 0"),
    "infinite": ({"std": (float("inf"),) * 3}, r"std is \[inf, inf, inf\], and has to be three numbers above"),
    "zero": ({"std": (0.2, 0.2, 0.0)}, r"std is \[0\.2, 0\.2, 0\.0\], and has"),
    "of 255": ({"mean": (122.0, 116.0, 104.0)}, r"mean is \[122\.0, 116\.0, 104\.0\], and has"),
    "negative": ({"mean": (-0.1, 0.5, 0.5)}, r"mean is \[-0\.1"),
    "two": ({"mean": (0.5, 0.5)}, r"mean is \[0\.5, 0\.5\], and has"),
    "words": ({"std": ("0.5", "0.5", "0.5")}, r"std is \['0\.5', "),
    "one word": ({"mean": "0.5"}, r"mean is '0\.5', and has"),
    "one number": ({"mean": 0.5}, r"mean is 0\.5, and has"),
    "interpolation": ({"interpolation": "nearest"}, "interpolation is 'nearest', and has to be bicubic or bilinear"),
    "resize_mode": ({"resize_mode": "foo"}, "resize_mode is 'foo', and has to be shortest or longest or squash"),
    "a list": ({"resize_mode": ["squash"]}, r"resize_mode is \['squash'\], and has"),
}  # fmt: skip


@pytest.mark.parametrize("case", NONSENSE)
def test_a_preprocessing_that_nobody_can_mean_is_refused(original: Path, tmp_path: Path, case: str) -> None:
    said, message = NONSENSE[case]
    weights = original / "open_clip_model.safetensors"
    with pytest.raises(ModelFileError, match=message):
        add_openclip(tmp_path / "models", "mine", weights, replace(ALL_STATED, arch="ViT-B-32", **said))
    folder = tmp_path / "folder"
    shutil.copytree(original, folder)
    for more in (said, {"fill_color": 256}, {"fill_color": "red"}, {"mode": "L"}):
        config = {"model_cfg": TINY, "preprocess_cfg": {**PREPROCESSING, **more}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        with pytest.raises(ModelFileError, match=message if more is said else "(fill_color|mode) is .* has to be"):
            add_openclip(tmp_path / "models", "mine", folder)
    assert list_models(tmp_path / "models") == []


def test_a_source_that_publishes_nonsense_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip.pretrained import _PRETRAINED

    monkeypatch.setitem(_PRETRAINED[ARCH][TAG], "std", (0.0, 0.0, 0.0))
    with pytest.raises(ModelFileError, match=r"std is \[0\.0, 0\.0, 0\.0\], and has to be"):
        fetch_model(tmp_path, NAME)
    assert (list_models(tmp_path), site.served) == ([], [])


ANOTHER: dict[str, tuple[dict[str, Any], str]] = {
    "dimensions": ({"embed_dim": 32}, r"embed_dim 32 instead of 48"),
    "same shapes": (
        {"vision_cfg": {**TINY["vision_cfg"], "head_width": 32}},
        "head_width 32 instead of 16",
    ),
    "a constant": ({"vision_cfg": {**TINY["vision_cfg"], "norm_kwargs": {"eps": 1e-3}}}, "norm_kwargs"),
    "a default": ({"text_cfg": {**TINY["text_cfg"], "pool_type": "eos"}}, r"pool_type eos instead of argmax"),
}


@pytest.mark.parametrize("case", ANOTHER)
def test_a_published_name_takes_its_own_architecture_only(site: Site, tmp_path: Path, case: str) -> None:
    change, message = ANOTHER[case]
    folder = write_folder(tmp_path / "other", {**TINY, **change})
    message = rf"^this is another architecture than Tiny-quickgelu\.openai \(.*{message}.*\): give it a name of its own"
    for name, stated in ((NAME, Stated()), ("mine", Stated(like=NAME))):
        with pytest.raises(ModelFileError, match=message):
            add_openclip(tmp_path / "models", name, folder, stated)
    assert add_openclip(tmp_path / "models", "mine", folder).name == "mine"


def test_another_architecture_that_is_named_is_not_stored_under_a_published_name(
    site: Site, original: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=r"another architecture than Tiny-quickgelu\.openai \(embed_dim 512 inst"):
        add_openclip(tmp_path, NAME, original / "open_clip_model.safetensors", Stated("ViT-B-32-quickgelu"))


def test_the_same_architecture_in_other_words_is_taken(site: Site, tmp_path: Path) -> None:
    vision = {**TINY["vision_cfg"], "image_size": [224, 224], "mlp_ratio": 4, "patch_dropout": 0.5, "timm_drop": 0.1}
    text = {**TINY["text_cfg"], "hf_tokenizer_name": "", "hf_model_pretrained": False, "pool_type": "argmax"}
    folder = write_folder(tmp_path / "same", TINY)
    model = {**TINY, "vision_cfg": vision, "text_cfg": text, "init_logit_scale": 2.0, "custom_text": False}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": PREPROCESSING}))
    assert add_openclip(tmp_path / "models", NAME, folder).facts["quick_gelu"] is True


def test_a_folder_that_leaves_something_to_defaults_has_to_be_completed(original: Path, tmp_path: Path) -> None:
    model = {key: value for key, value in TINY.items() if key != "quick_gelu"}
    folder = write_folder(tmp_path / "half", model, {"mean": MEAN, "interpolation": "bicubic"})
    shutil.copy(original / "open_clip_model.safetensors", folder)
    with pytest.raises(ModelFileError, match=r"nothing says --quick-gelu yes\|no, --std, --resize-mode"):
        add_openclip(tmp_path / "models", "mine", folder)
    mine = add_openclip(tmp_path / "models", "mine", folder, Stated(None, True, None, STD, None, "shortest"))
    assert mine.facts == add_openclip(tmp_path / "models", "whole", original).facts
    assert np.array_equal(vectors(tmp_path / "models", "mine"), vectors(tmp_path / "models", "whole"))
    with pytest.raises(ModelFileError, match=r"mean is .* and not \[0\.5"):
        add_openclip(tmp_path / "models", "mine", folder, Stated(None, True, (0.5,) * 3, STD, None, "shortest"))


def _nan(weights: dict[str, Any]) -> dict[str, Any]:
    weights["visual.proj"][0, 0] = float("nan")
    return weights


def _resized(weights: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {**weights, "visual.positional_embedding": torch.zeros(1 + 5 * 5, 64)}


WEIGHTS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "not a number": (_nan, r"^weights of \S+/model\.\w+ are not finite, visual\.proj among 1"),
    "other position embeddings": (
        _resized,
        r"are of another architecture .* visual\.positional_embedding is \(26, 64\)",
    ),
    "something missing": (lambda w: {k: v for k, v in w.items() if k != "visual.proj"}, r"Missing key.*visual\.proj"),
    "something more": (lambda w: {**w, "other": w["visual.proj"].clone()}, r"Unexpected key.*other"),
    "another width": (lambda w: {**w, "visual.proj": w["visual.proj"][:, :7]}, "size mismatch for visual.proj"),
    "nothing": (lambda w: {}, r"is damaged, or no file of weights .*there is nothing in it\)"),
}


@pytest.mark.parametrize("case", WEIGHTS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_that_are_no_such_model_are_told(tmp_path: Path, case: str, suffix: str) -> None:
    import torch
    from safetensors.torch import save_file

    change, message = WEIGHTS[case]
    folder = write_folder(tmp_path / "original")
    (folder / "open_clip_model.safetensors").unlink()
    weights = change({key: tensor.contiguous().clone() for key, tensor in make_weights(TINY).items()})
    if suffix == ".pt":
        torch.save(weights, folder / "model.pt")
    else:
        save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=message) as told:
        add_openclip(tmp_path / "models", "mine", folder)
    assert "\n" not in str(told.value)
    assert ".staged" not in str(told.value)
    assert str(folder / "model") in str(told.value)
    assert list_models(tmp_path / "models") == []


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0, 100, -1_000])
def test_a_truncated_file_is_told(original: Path, tmp_path: Path, suffix: str, keep: int) -> None:
    import torch

    data = (original / "open_clip_model.safetensors").read_bytes()
    if suffix == ".pt":
        buffer = io.BytesIO()
        torch.save(make_weights(TINY), buffer)
        data = buffer.getvalue()
    folder = write_folder(tmp_path / "original")
    (folder / "open_clip_model.safetensors").unlink()
    (folder / f"model{suffix}").write_bytes(data[:keep])
    with pytest.raises(ModelFileError, match=rf"{suffix} is damaged, or no file of weights ") as told:
        add_openclip(tmp_path / "models", "mine", folder)
    assert "\n" not in str(told.value)
    assert list_models(tmp_path / "models") == []


NO_WEIGHTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "text": (lambda: b"hello world\n", "torch: KeyError"),
    "a pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\n",
        "torch: Unsupported operand 118",
    ),
    "a module": (
        lambda: _saved(_linear()),
        r"torch: Unsupported global: GLOBAL torch\.nn\S+ was not an allowed",
    ),
    "a list": (lambda: _saved([1, 2]), "torch: 'list' object has no attribute"),
    "cut": (
        lambda: _saved({"a": 1})[:100],
        "torch: PytorchStreamReader failed reading zip archive: failed",
    ),
}


def _saved(value: object) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _linear() -> object:
    import torch

    return torch.nn.Linear(1, 1)


@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_what_is_no_file_of_weights_is_told_with_the_reason_and_not_with_what_torch_recommends(
    tmp_path: Path, case: str
) -> None:
    content, reason = NO_WEIGHTS[case]
    (tmp_path / "model.pt").write_bytes(content())
    with pytest.raises(
        ModelFileError, match=rf"^{tmp_path}/model\.pt is damaged, .*\({reason}.*\): save its state"
    ) as told:
        add_openclip(tmp_path / "models", "mine", tmp_path / "model.pt", replace(ALL_STATED, arch="ViT-B-32"))
    said = str(told.value)
    assert not any(word in said for word in ("weights_only", "miniz", "add_safe_globals", "\n", "\x1b"))


def test_safetensors_are_known_by_their_content(original: Path, tmp_path: Path) -> None:
    add_openclip(tmp_path / "models", "one", original)
    folder = tmp_path / "folder"
    shutil.copytree(original, folder)
    (folder / "open_clip_model.safetensors").rename(folder / "model.pt")
    other = add_openclip(tmp_path / "models", "other", folder)
    assert other.digest == find_model(tmp_path / "models", "one").digest
    (folder / "model.pt").write_bytes((folder / "model.pt").read_bytes()[:-1_000])
    with pytest.raises(ModelFileError, match=r"/model\.pt is damaged, or no file of weights \(Error while deser"):
        add_openclip(tmp_path / "models", "other", folder)


def test_a_pickle_that_runs_something_is_not_run(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    folder = write_folder(tmp_path / "original")
    (folder / "open_clip_model.safetensors").unlink()
    (folder / "model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(
        ModelFileError,
        match=r"no file of weights that can be read without running what is in it \(torch: Unsupp",
    ):
        add_openclip(tmp_path / "models", "mine", folder)
    assert not (tmp_path / "owned").exists()


def test_folders_that_are_no_model_are_told(original: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="none is not there"):
        add_openclip(tmp_path / "models", "mine", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"open_clip_config\.json cannot be read \(No such file"):
        add_openclip(tmp_path / "models", "mine", tmp_path / "empty")
    for config in ("", "[]", "{}", '{"model_cfg": 1}'):
        (tmp_path / "empty" / "open_clip_config.json").write_text(config)
        with pytest.raises(ModelFileError, match="is no description of a model of open_clip"):
            add_openclip(tmp_path / "models", "mine", tmp_path / "empty")
    folder = write_folder(tmp_path / "two")
    (folder / "open_clip_model.safetensors").rename(folder / "one.safetensors")
    (folder / "two.safetensors").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"must hold one file of weights .* not one\.safetensors, two\."):
        add_openclip(tmp_path / "models", "mine", folder)
    folder = write_folder(tmp_path / "odd", TINY)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {**TINY, "vision_cfg": {"nothing": 1}}, "preprocess_cfg": PREPROCESSING})
    )
    with pytest.raises(ModelFileError, match="is not loaded by open_clip"):
        add_openclip(tmp_path / "models", "mine", folder)


def test_of_a_model_with_words_of_transformers_the_image_tower_is_stored(original: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "roberta"
    folder.mkdir()
    weights = load_file(original / "open_clip_model.safetensors")
    half = {key: tensor for key, tensor in weights.items() if key.startswith("visual.") or key == "logit_scale"}
    theirs = {"text.transformer.embeddings.word_embeddings.weight": torch.ones(9, 9), "text.proj.weight": torch.ones(9)}
    save_file({**half, **theirs}, folder / "open_clip_model.safetensors")
    text = {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base", "hf_pooler_type": "mean_pooler"}
    config = {"model_cfg": {**TINY, "text_cfg": text}, "preprocess_cfg": PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = add_openclip(tmp_path / "models", "roberta", folder)
    add_openclip(tmp_path / "models", "plain", original)
    assert (model.facts["text"], names(model.folder)) == (
        False, ["model.json", "open_clip_config.json", "open_clip_model.safetensors"]
    )  # fmt: skip
    assert np.array_equal(vectors(tmp_path / "models", "roberta"), vectors(tmp_path / "models", "plain"))
    with pytest.raises(EmbedderParameterError, match="roberta reads text by a tokenizer of another library"):
        OpenClipEmbedder(model.card, 448).embed_texts(["a red car"], Machine(tmp_path / "models", "cpu"))
    weights["visual.proj"][0, 0] = float("nan")
    save_file({**half, **theirs, "visual.proj": weights["visual.proj"]}, folder / "open_clip_model.safetensors")
    with pytest.raises(ModelFileError, match="are not finite"):
        add_openclip(tmp_path / "models", "broken", folder)


def test_image_towers_that_a_hub_describes_are_not_offered(original: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / "timm")
    model = {**TINY, "vision_cfg": {"image_size": 224, "timm_model_name": "hf-hub:timm/x"}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": PREPROCESSING}))
    with pytest.raises(
        ModelFileError, match=r"open_clip_config\.json: its image tower is fetched .* it is not offered"
    ):
        add_openclip(tmp_path / "models", "mine", folder)


def test_quick_gelu_is_true_or_false(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "odd")
    model = {**TINY, "quick_gelu": "no"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": PREPROCESSING}))
    with pytest.raises(ModelFileError, match="quick_gelu is 'no', and has to be true or false"):
        add_openclip(tmp_path / "models", "mine", folder)


@pytest.mark.parametrize("custom_text", [False, True])
def test_a_text_tower_of_another_length_is_told(tmp_path: Path, custom_text: bool) -> None:
    folder = write_folder(tmp_path / "short", {**TINY, "text_cfg": {**TINY["text_cfg"], "context_length": 10}})
    model = {**TINY, "custom_text": custom_text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": PREPROCESSING}))
    with pytest.raises(ModelFileError, match=r"another architecture .* positional_embedding is \(10, 32\) instead of"):
        add_openclip(tmp_path / "models", "mine", folder)


def test_weights_whose_words_say_nothing_are_told(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_folder(tmp_path / "loud")
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["text_projection"] *= 1e38
    save_file(weights, folder / "open_clip_model.safetensors")
    with pytest.raises(ModelFileError, match="makes numbers that are not finite"):
        add_openclip(tmp_path / "models", "mine", folder)


def test_another_model_is_replaced_only_when_that_is_said(original: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", seed=1)
    first = add_openclip(tmp_path / "models", "mine", original)
    assert add_openclip(tmp_path / "models", "mine", original).digest == first.digest
    with pytest.raises(ModelFileError, match=r"has another mine, .* a name of its own, or --replace that one"):
        add_openclip(tmp_path / "models", "mine", other)
    assert find_model(tmp_path / "models", "mine").digest == first.digest
    assert add_openclip(tmp_path / "models", "mine", other, replace=True).digest != first.digest
    (find_model(tmp_path / "models", "mine").folder / "open_clip_model.safetensors").write_bytes(b"damaged")
    assert add_openclip(tmp_path / "models", "mine", original).digest == first.digest


def test_of_several_files_of_weights_the_one_is_taken_that_open_clip_takes(tmp_path: Path) -> None:
    from open_clip.factory import _find_checkpoint_in_dir

    folder = write_folder(tmp_path / "snapshot")
    safe = (folder / "open_clip_model.safetensors").read_bytes()
    add_openclip(tmp_path / "models", "one", folder)
    names = [
        "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth",
        "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth", "other.safetensors", "other.bin",
    ]  # fmt: skip
    for name in names:
        (folder / name).write_bytes(b"not read")
    add_openclip(tmp_path / "models", "several", folder)
    assert find_model(tmp_path / "models", "several").digest == find_model(tmp_path / "models", "one").digest
    for name in ("open_clip_model.safetensors", *names):
        assert find_weights(folder) == Path(_find_checkpoint_in_dir(folder)) == folder / name
        (folder / name).unlink()
    (folder / "epoch_9.pt").write_bytes(safe)
    assert find_weights(folder).name == "epoch_9.pt"


def test_a_store_that_cannot_be_written_is_told(original: Path) -> None:
    with pytest.raises(ModelFileError, match=r"^/proc/models cannot be written \(.*\): name another folder of models"):
        add_openclip(Path("/proc/models"), "mine", original)
