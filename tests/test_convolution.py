"""The layers at the ends of the networks compute what torch's layers compute, by another route."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gans import convolution
from gans.convolution import Collapse, Double, Expand, Halve

LAYERS = [
    pytest.param(Expand, (3, 7, 1, 1), 5, id="expand"),
    pytest.param(Collapse, (3, 7, 4, 4), 1, id="collapse"),
    pytest.param(Double, (3, 7, 4, 4), 1, id="double-grey"),
    pytest.param(Double, (3, 7, 4, 4), 3, id="double-rgb"),
    pytest.param(Double, (3, 7, 4, 4), 6, id="double-many"),
    pytest.param(Halve, (3, 1, 8, 8), 5, id="halve-grey"),
    pytest.param(Halve, (3, 3, 8, 8), 5, id="halve-rgb"),
    pytest.param(Halve, (3, 6, 8, 8), 5, id="halve-many"),
]


def values_and_gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, its gradients, and the gradient of a gradient penalty with respect to the weights."""
    x = x.clone().requires_grad_(True)
    out = layer(x)
    inputs = [x, *layer.parameters()]
    grads = torch.autograd.grad(out.double().square().sum(), inputs, create_graph=True)
    second = torch.autograd.grad(grads[0].double().square().sum(), [layer.get_parameter("weight")])
    return [out, *grads, *second]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "shape", "outputs"), LAYERS)
def test_fast_form_equals_torch_layer_to_second_order(
    kind: type, shape: tuple[int, ...], outputs: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer, x = kind(shape[1], outputs, bias=bias).double(), torch.randn(shape, dtype=torch.double)
    expected = values_and_gradients(layer, x)
    monkeypatch.setattr(convolution, "_bf16_on_cpu", lambda _: True)
    for layout in (torch.contiguous_format, torch.channels_last):
        layer = layer.to(memory_format=layout)
        for got, want in zip(values_and_gradients(layer, x.to(memory_format=layout)), expected, strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("kind", "shape", "outputs"), LAYERS)
def test_fast_form_under_bf16_autocast_stays_within_bf16_of_float32(
    kind: type, shape: tuple[int, ...], outputs: int
) -> None:
    torch.manual_seed(0)
    layer, x = kind(shape[1], outputs), torch.randn(shape, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(x)
    want = layer(x)
    assert got.dtype == torch.bfloat16
    assert (got.float() - want).abs().max() < 2**-6 * want.abs().max()


@pytest.mark.parametrize(("kind", "shape", "outputs"), LAYERS)
def test_float32_is_torch_layer_bit_for_bit(kind: type, shape: tuple[int, ...], outputs: int) -> None:
    torch.manual_seed(0)
    layer, x = kind(shape[1], outputs), torch.randn(shape, requires_grad=True)
    base = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.ConvTranspose2d
    assert torch.equal(layer(x), base.forward(layer, x))
