"""benchmarks.gpu where there is no GPU: it says so, and what it would measure there is right on a CPU."""

import json
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu_models import openclip
from imgrec.embedders.models.openclip_adding import add_openclip
from imgrec.storage.machine.pool import WorkerPool
from tests.embedders.openclip_files import write_folder


def tiny(models_root: Path) -> tuple[str, dict[str, Any]]:
    stored = add_openclip(models_root, "tiny.random", write_folder(models_root.parent / "tiny"))
    return "openclip", {"openclip_model": dict(stored.card)}


def missing(models_root: Path) -> tuple[str, dict[str, Any]]:
    raise ModuleNotFoundError("No module named 'dreamsim'")


def test_without_a_gpu_it_says_so() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu"]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    done = run(command, cwd=Path(__file__).parents[1], env=hidden, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["benchmark"] == "gpu"
    assert "sees no CUDA GPU here" in said["skipped"]


def test_what_it_measures_and_what_it_leaves_out() -> None:
    found = gpu.run("cpu", True, {"tiny": tiny, "DreamSim": missing})
    assert found["left_out"] == {"DreamSim": "No module named 'dreamsim'"}
    assert found["images"] == 64
    measured = found["models"]["tiny"]
    assert measured["alike"] < 0.999  # or the cosines below would say nothing
    assert measured["float32"]["cosine"] >= 0.99999
    for precision in ("bf16", "fp16"):
        assert 0.98 < measured[precision]["cosine"] < 1
        assert measured[precision]["share"] == pytest.approx(
            measured[precision]["embedding_per_s"] / measured[precision]["forward_per_s"], abs=0.01
        )


def test_a_model_that_runs_out_of_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of the test's own in place of the one that CUDA has."""
    import torch

    from imgrec.embedders.modalities.openclip import OpenClipEmbedder

    forward = OpenClipEmbedder.forward

    def limited(self: OpenClipEmbedder, batch: "torch.Tensor") -> Any:
        if len(batch) > 5 and starving:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, batch)

    starving: list[bool] = []
    monkeypatch.setattr(OpenClipEmbedder, "forward", limited)
    monkeypatch.setattr(gpu, "_little_memory", lambda *_: _Starving(starving))
    gpu.write_photos(tmp_path / "photos", 32)
    modality, settings = tiny(tmp_path / "models")
    with WorkerPool(2, ["imgrec.embedders.work.worker"]) as pool:
        bench = gpu.Bench(tmp_path, pool, gpu.list_photos(tmp_path / "photos"), "cpu", 16)
        found = gpu.starve(bench, modality, {**gpu.SETTINGS, **settings})
    assert found["images"] == 32
    assert [line.split("going on with ")[1] for line in found["said"]] == [
        "8 (model_batch_size)", "4 (model_batch_size)"
    ]  # fmt: skip
    assert found["cosine"] >= 0.99999


class _Starving:
    def __init__(self, starving: list[bool]) -> None:
        self._starving = starving

    def __enter__(self) -> None:
        self._starving.append(True)

    def __exit__(self, *_: object) -> None:
        self._starving.clear()


@pytest.mark.slow
def test_a_generated_model_is_of_the_real_architecture(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    modality, settings = openclip("ViT-B-32")(tmp_path)
    assert (modality, settings["openclip_model"]["dim"]) == ("openclip", 512)
