"""The fused step is torch's Adam, whatever the memory layout of the gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gans import optimise

SHAPES = [(8, 4, 3, 3), (8, 4, 1, 1), (6, 5), (7,)]
LAYOUTS = {
    "contiguous": lambda g: g.contiguous(),
    "transposed": lambda g: g.transpose(0, 1).contiguous().transpose(0, 1) if g.dim() > 1 else g,
    "channels last": lambda g: g.contiguous(memory_format=torch.channels_last) if g.dim() == 4 else g,
}


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradients(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("of_weights", ["contiguous", "channels last"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_those_of_torchs_plain_adam(layout: str, of_weights: str, fused: bool) -> None:
    mine, theirs = parameters(), parameters()
    for p in mine:
        p.data = LAYOUTS[of_weights](p.data)
    ours = torch.optim.Adam(mine, lr=0.1, betas=(0.5, 0.9), fused=fused)
    plain = torch.optim.Adam(theirs, lr=0.1, betas=(0.5, 0.9), foreach=False, fused=False)
    for seed in range(3):
        optimise.step(ours, mine, [LAYOUTS[layout](g) for g in gradients(seed)])
        for p, g in zip(theirs, gradients(seed), strict=True):
            p.grad = g
        plain.step()
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_a_parameter_without_a_gradient_stays() -> None:
    params = parameters()
    before = [p.detach().clone() for p in params]
    optimiser = torch.optim.Adam(params, lr=0.1, fused=True)
    for seed in range(2):
        optimise.step(optimiser, params, [None, *gradients(seed)[1:]])
    assert params[0].equal(before[0])
    assert not any(p.equal(b) for p, b in zip(params[1:], before[1:], strict=True))
