"""An autoencoder that starts as PCA and learns to keep who is near whom."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.compression.encoder import ACTIVATIONS, Encoder
from imgrec.embedders.compression.linear import fit_pca
from imgrec.embedders.errors import EmbedderParameterError, TooFewImagesError

if TYPE_CHECKING:
    import torch

Vectors = NDArray[np.float32]
# Of the rows, so many are never trained on and say when to stop; no more than these, which fit one matrix of products.
_HELD_OUT, _HELD_OUT_AT_MOST = 0.1, 4_096
_NEIGHBOURS = 10


@dataclass(frozen=True)
class AutoencoderSettings:
    """The shape of an autoencoder and how it learns.

    `depth` hidden layers of `width` units in encoder and decoder (0: both linear); `noise` is the share of a row's
    length that is added to what the encoder sees (denoising, https://doi.org/10.1145/1390156.1390294). The loss is
    `1 - neighbour_share` times the squared error of reconstruction, and `neighbour_share` times the divergence between
    who is near whom in a batch before and after, at `temperature` (as in t-SNE and https://arxiv.org/abs/1503.02531).
    """

    depth: int = 1
    width: int = 512
    activation: str = "silu"
    noise: float = 0.0
    neighbour_share: float = 0.9
    temperature: float = 0.05
    learning_rate: float = 1e-3
    batch_size: int = 1_024
    epochs: int = 30
    patience: int = 4

    def check(self) -> None:
        """Raises EmbedderParameterError: one is out of range."""
        allowed = {
            "depth": 0 <= self.depth <= 4, "width": 8 <= self.width <= 1_024, "noise": 0 <= self.noise <= 2,
            "activation": self.activation in ACTIVATIONS, "neighbour_share": 0 <= self.neighbour_share <= 1,
            "temperature": self.temperature > 0, "learning_rate": 0 < self.learning_rate < 1,
            "batch_size": self.batch_size >= 32, "epochs": self.epochs >= 1, "patience": self.patience >= 1,
        }  # fmt: skip
        for name, fine in allowed.items():
            if not fine:
                raise EmbedderParameterError(f"autoencoder: {name} = {getattr(self, name)!r} is out of range")


def fit_autoencoder(
    rows: Vectors,
    dim: int,
    facts: Mapping[str, Any],
    seed: int = 0,
    settings: AutoencoderSettings = AutoencoderSettings(),
    device: str = "cpu",
    on_epoch: Callable[[int, float], bool] = lambda epoch, recall: False,
    seconds_at_most: float = float("inf"),
) -> Encoder:
    """Learn from unit rows (N, source dim), which may be mapped: a batch is in memory at a time.

    A part of the rows is held out; the encoder of the epoch in which most of their nearest neighbours stay what they
    were is what is returned, and after `patience` epochs without a better one it ends. It never ends worse there than
    the PCA that it starts as. `on_epoch(epoch, recall)` hears of every epoch, and may end it by True.

    Raises:
        EmbedderParameterError: a setting is out of range.
        TooFewImagesError: there are fewer than 20 rows.
    """
    import torch

    settings.check()
    if len(rows) * _HELD_OUT < 2:
        raise TooFewImagesError(f"{len(rows)} vectors are too few for an autoencoder: {2 / _HELD_OUT:.0f} are needed")
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    order = random.permutation(len(rows))
    held = np.sort(order[: min(_HELD_OUT_AT_MOST, int(len(rows) * _HELD_OUT))])
    taken = np.sort(order[len(held) :])
    pca = fit_pca(rows[taken] if not isinstance(rows, np.memmap) else rows, dim, facts)
    network = _Network(pca, settings, device)
    judged = torch.from_numpy(np.array(rows[held], np.float32)).to(device)
    steps = max(1, -(-len(taken) // settings.batch_size))
    optimizer = torch.optim.AdamW(network.parameters, lr=settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps * settings.epochs, pct_start=0.1
    )
    kept = {**facts, "method": "ae", "seed": seed, "settings": asdict(settings)}
    best, best_recall, waited, started = network.encoder(kept), network.recall(judged), 0, time.monotonic()
    for epoch in range(settings.epochs):
        for part in np.array_split(random.permutation(taken), steps):
            batch = torch.from_numpy(np.array(rows[np.sort(part)], np.float32)).to(device)
            optimizer.zero_grad()
            network.loss(batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        recall = network.recall(judged)
        if recall > best_recall:
            best, best_recall, waited = network.encoder(kept), recall, 0
        else:
            waited += 1
        if on_epoch(epoch, recall) or waited >= settings.patience or time.monotonic() - started > seconds_at_most:
            break
    return best


class _Network:
    """Encoder: PCA's directions, which learn too, plus layers that begin as nothing; decoder: the same backwards."""

    def __init__(self, pca: Encoder, settings: AutoencoderSettings, device: str) -> None:
        import torch

        self._settings = settings
        dim, source = pca.linear.shape
        self._linear = torch.nn.Linear(source, dim)
        with torch.no_grad():
            self._linear.weight.copy_(torch.from_numpy(pca.linear))
            self._linear.bias.zero_()
        hidden = [settings.width] * settings.depth
        self._layers = self._chain([source, *hidden, dim]) if settings.depth else None
        self._decoder = self._chain([dim, *hidden, source])
        if self._layers is not None:
            for parameter in self._layers[-1].parameters():
                torch.nn.init.zeros_(parameter)
        for part in (self._linear, self._layers, self._decoder):
            if part is not None:
                part.to(device)

    @property
    def parameters(self) -> "list[torch.nn.Parameter]":
        parts = [part for part in (self._linear, self._layers, self._decoder) if part is not None]
        return [parameter for part in parts for parameter in part.parameters()]

    def encode(self, rows: "torch.Tensor") -> "torch.Tensor":
        import torch

        encoded = self._linear(rows)
        if self._layers is not None:
            encoded = encoded + self._layers(rows)
        return torch.nn.functional.normalize(encoded)

    def loss(self, rows: "torch.Tensor") -> "torch.Tensor":
        import torch

        share, heat = self._settings.neighbour_share, self._settings.temperature
        seen = rows
        if self._settings.noise:
            seen = rows + torch.randn_like(rows) * (self._settings.noise / rows.shape[1] ** 0.5)
        codes = self.encode(seen)
        loss = rows.new_zeros(())
        if share < 1:
            loss = loss + (1 - share) * (self._decoder(codes) - rows).square().sum(1).mean()
        if share > 0:
            itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
            before = (rows @ rows.T / heat).masked_fill(itself, -1e4).log_softmax(1)
            after = (codes @ codes.T / heat).masked_fill(itself, -1e4).log_softmax(1)
            loss = loss + share * torch.nn.functional.kl_div(after, before, log_target=True, reduction="batchmean")
        return loss

    def recall(self, rows: "torch.Tensor") -> float:
        """Which share of the nearest neighbours among these rows are so among their codes too."""
        import torch

        with torch.no_grad():
            before, after = (_nearest(found) for found in (rows, self.encode(rows)))
            return float((before[:, :, None] == after[:, None, :]).any(2).float().mean())

    def encoder(self, facts: Mapping[str, Any]) -> Encoder:
        import torch

        layers = [part for part in self._layers or () if isinstance(part, torch.nn.Linear)]
        pairs = tuple((_array(layer.weight), _array(layer.bias)) for layer in layers)
        return Encoder(
            _array(self._linear.weight), _array(self._linear.bias), pairs, self._settings.activation, dict(facts)
        )

    def _chain(self, sizes: list[int]) -> "torch.nn.Sequential":
        import torch

        activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "silu": torch.nn.SiLU}[self._settings.activation]
        parts: list[torch.nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes)):
            parts += [torch.nn.Linear(before, after), *([activation()] if number < len(sizes) - 2 else [])]
        return torch.nn.Sequential(*parts)


def _nearest(rows: "torch.Tensor") -> "torch.Tensor":
    products = rows @ rows.T
    products.fill_diagonal_(-2)
    return products.topk(min(_NEIGHBOURS, len(rows) - 1)).indices


def _array(tensor: "torch.Tensor") -> Vectors:
    return np.array(tensor.detach().cpu().numpy(), np.float32)
