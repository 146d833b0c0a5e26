"""What a forward pass of each learned model costs an image, and what a GPU could make of that at most.

    python -m benchmarks.flops

Counted on the real architectures without weights (torch's meta device), so this takes seconds and no hub. A
multiplication and an addition are two operations. What an operation writes is written and read once. docs/gpu.md says
what follows from it.
"""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

BATCH = 64
SIDE = 224
# From NVIDIA's data sheets, SXM modules, without sparsity: TFLOP/s in bf16 and in float32 (which is not TF32), TB/s.
GPUS = {"A100 80 GB": (312, 19.5, 2.04), "H100": (989, 67, 3.35), "H200": (989, 67, 4.8)}


def efficientnet() -> Any:
    """EfficientNet-Lite0, as its package makes it."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0").eval()


def open_clip(name: str) -> Any:
    """The image tower of an open_clip model."""
    from open_clip import get_model_config
    from open_clip.model import CLIP

    return CLIP(**get_model_config(name)).visual.eval()


def dreamsim(patch: int, towers: int = 1) -> Any:
    """DreamSim's backbones, which it all makes of one vision transformer; its LoRA is 1 % more, and left out."""
    import torch
    from dreamsim.feature_extraction.vision_transformer import vit_base

    class Towers(torch.nn.ModuleList):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.cat([tower(pictures) for tower in self], dim=1)

    with torch.device("cpu"):  # it reads numbers while it is made, which meta tensors have not
        return Towers([vit_base(patch_size=patch, num_classes=0) for _ in range(towers)]).to("meta").eval()


MODELS: dict[str, Callable[[], Any]] = {
    "EfficientNet-Lite0": efficientnet,
    "ViT-B-32": lambda: open_clip("ViT-B-32"),
    "ViT-B-16": lambda: open_clip("ViT-B-16"),
    "ViT-L-14": lambda: open_clip("ViT-L-14"),
    "ViT-H-14": lambda: open_clip("ViT-H-14"),
    "DreamSim, ViT-B/32": lambda: dreamsim(32),
    "DreamSim, ensemble": lambda: dreamsim(16, towers=3),
}


def count(make: Callable[[], Any]) -> dict[str, float]:
    """GFLOP an image, parameters in millions, and MB of activations that each operation writes for an image."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    class Written(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch says no types
        """Counts the elements of all results that are no views."""

        elements = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and not function.is_view:
                self.elements += result.numel()
            return result

    with torch.device("meta"), torch.no_grad():
        model = make()
        pictures = torch.empty(BATCH, 3, SIDE, SIDE)
        flops, written = FlopCounterMode(display=False), Written()  # type: ignore[no-untyped-call] # the same
        with flops, written:
            model(pictures)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "gflop": flops.get_total_flops() / BATCH / 1e9,
        "parameters": parameters / 1e6,
        "written": written.elements / BATCH / 1e6,
    }


def bound(gflop: float, written: float, tflops: float, terabytes: float, size: int) -> float:
    """Images/s at most, where nothing computes while something else moves values of `size` bytes."""
    return 1 / (gflop / (tflops * 1e3) + 2 * written * size / (terabytes * 1e6))


def main() -> None:
    columns = [f"{name}\n{precision}" for name in GPUS for precision in ("bf16", "float32")]
    table = Table("images/s at most", "GFLOP an\nimage", "parameters,\nmillions", "values\nwritten, M", *columns)
    for name, make in MODELS.items():
        cost = count(make)
        work = cost["gflop"], cost["written"]
        bounds = [
            f"{bound(*work, tflops, terabytes, size):,.0f}"
            for bf16, float32, terabytes in GPUS.values()
            for tflops, size in ((bf16, 2), (float32, 4))
        ]
        table.add_row(name, f"{work[0]:.2f}", f"{cost['parameters']:.1f}", f"{work[1]:.1f}", *bounds)
    Console(highlight=False, width=130).print(table)


if __name__ == "__main__":
    main()
