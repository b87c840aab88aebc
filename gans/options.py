"""How a run is trained, apart from the family's own hyperparameters: budget, batch, cadence, speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import pydantic
import torch
from pydantic import model_validator
from torch import nn

from gans.config import Config
from gans.data.base import Field

# Below these sizes (Zen 5, one core, DCGAN of width 16 and 32 at 8, 16, 32, 64 px) conversions cost about what faster
# arithmetic saves: bf16 gains 0.9x to 1.1x at 8 px and 1.2x to 1.4x at 16 px, channels-last 1.0x and 1.1x.
AUTO_BF16_PIXELS = 16 * 16
AUTO_CHANNELS_LAST_PIXELS = 16 * 16


class Train(Config):
    """Budget (the first of `steps`, `images`, `seconds` that is reached ends the run), batch, cadence and speed.

    `batch` is global: the rows of all ranks together. Each rank computes its rows in `accumulate` micro-batches, which
    takes less memory; what depends on other rows (batch norm) sees those of one micro-batch, of all ranks.
    `log_every`, `evaluate_every`, `sample_every` and `checkpoint_every` count steps; 0 means only at the end; the
    newest `keep_checkpoints` stay (two at least), and with `keep_best` the one with the best FID. `plateau` ends the
    run after that many evaluations without a better FID (0: never). `on_collapse` is what a verdict other than healthy
    leads to: the end (`stop`); the family's remedy from the last sound checkpoint on, up to `max_remedies` times
    (`remedy`); or nothing (`ignore`).
    """

    steps: int | None = pydantic.Field(2000, ge=1)
    images: int | None = pydantic.Field(None, ge=1)
    seconds: float | None = pydantic.Field(None, gt=0)
    batch: int = pydantic.Field(64, ge=1)
    accumulate: int = pydantic.Field(1, ge=1)
    log_every: int = pydantic.Field(25, ge=1)
    evaluate_every: int = pydantic.Field(500, ge=0)
    evaluate_samples: int = pydantic.Field(0, ge=0)
    sample_every: int = pydantic.Field(500, ge=0)
    sample_grid: int = pydantic.Field(64, ge=1)
    checkpoint_every: int = pydantic.Field(500, ge=0)
    keep_checkpoints: int = pydantic.Field(2, ge=1)
    keep_best: bool = True
    plateau: int = pydantic.Field(0, ge=0)
    on_collapse: Literal["stop", "remedy", "ignore"] = "remedy"
    max_remedies: int = pydantic.Field(3, ge=0)
    ema: bool = True
    extractor: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    channels_last: bool = True
    fused: bool = True
    reuse: bool = True

    @model_validator(mode="after")
    def _some_budget(self) -> Self:
        if self.steps is None and self.images is None and self.seconds is None:
            raise ValueError("a run needs a budget: set train.steps, train.images or train.seconds")
        return self

    def steps_left(self, step: int, images: int, rows: int) -> int | None:
        """Steps of `rows` images that are left after `step` steps and `images` images; None where only time counts."""
        left = [] if self.steps is None else [self.steps - step]
        if self.images is not None:
            left.append(-(-(self._whole - images) // rows))
        return min(left) if left else None

    def progress(self, step: int, images: int, seconds: float) -> float:
        """Share of the budget used, in [0, 1]."""
        shares = [0.0]
        if self.steps is not None:
            shares.append(step / self.steps)
        if self.images is not None:
            shares.append(images / self._whole)
        if self.seconds is not None:
            shares.append(seconds / self.seconds)
        return min(1.0, max(shares))

    @property
    def _whole(self) -> int:
        """Images of the budget, in whole batches."""
        assert self.images is not None
        return max(self.batch, self.images - self.images % self.batch)


PLAIN = {"precision": "fp32", "channels_last": False, "fused": False, "reuse": False}


@dataclass(frozen=True)
class Speed:
    """The options of `Train` resolved for a device and a data shape."""

    device: torch.device
    bf16: bool
    channels_last: bool
    fused: bool
    reuse: bool
    compile: bool

    @classmethod
    def resolve(cls, train: Train, device: torch.device, made: Field, nets: Mapping[str, nn.Module]) -> Speed:
        """What pays off for networks that make `made`.

        `precision="auto"` takes bf16 where the device multiplies it natively and convolutions see pictures that are
        large enough; perceptrons lose by it.
        """
        modules = [m for net in nets.values() for m in net.modules()]
        convolutional = made.kind == "image" and any(isinstance(m, nn.modules.conv._ConvNd) for m in modules)
        pixels = made.shape[-1] * made.shape[-2] if convolutional else 0
        auto = pixels >= AUTO_BF16_PIXELS and native_bf16(device)
        return cls(
            device=device,
            bf16=train.precision == "bf16" or (train.precision == "auto" and auto),
            channels_last=train.channels_last and pixels >= AUTO_CHANNELS_LAST_PIXELS,
            fused=train.fused,
            reuse=train.reuse,
            compile=train.compile,
        )

    def autocast(self) -> Any:
        """A bf16 autocast context, or one that keeps float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @property
    def float32(self) -> Any:
        """A factory of contexts without autocast."""
        return partial(torch.autocast, self.device.type, torch.bfloat16, enabled=False)

    def place(self, network: nn.Module) -> nn.Module:
        """The network on the device, in the memory format, compiled if asked."""
        network = network.to(self.device)
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.compile:
            network.compile()
        return network


def native_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products are native: Ampere and later, or AVX512-BF16 / AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def default_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
