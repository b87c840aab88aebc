"""Layers of K networks of one architecture as one layer: their weights stacked, their rows one after another.

A packed layer takes (K * N, ...), the N rows of the first network first, and computes each network's rows by its own
weights. The K layers' parameters become views of the stacks, so that each network goes on being one of its own: what
steps, samples or saves it needs to know nothing of the pack.

Sums are taken in the order in which a layer by itself takes them. So a packed training equals the same one alone to
the bit on a CPU where the batch fills its vector registers (a multiple of 32 rows), and to rounding elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from gans.networks import LabelledDiscriminator, LabelledGenerator, LeakyReLU
from gans.nn import Reshape, SyncBatchNorm

ROW_WISE: frozenset[type[nn.Module]] = frozenset(
    {
        nn.Sequential,
        nn.Identity,
        nn.Flatten,
        nn.Unflatten,
        Reshape,
        LabelledGenerator,
        LabelledDiscriminator,
        nn.ReLU,
        nn.LeakyReLU,
        LeakyReLU,
        nn.ELU,
        nn.GELU,
        nn.SiLU,
        nn.Sigmoid,
        nn.Softplus,
        nn.Tanh,
    }
)
"""Modules without weights of their own that treat every row by itself; others say so by `row_wise = True`."""


def obstacle(network: nn.Module) -> str:
    """Why `network` cannot be packed, empty where it can."""
    kind = parametrize.type_before_parametrizations(network)
    if kind in LAYERS:
        return LAYERS[kind].obstacle(network)
    if kind in ROW_WISE or getattr(network, "row_wise", False):
        if list(network.parameters(recurse=False)):
            return f"{kind.__name__} holds parameters of its own"
        return next(filter(None, map(obstacle, network.children())), "")
    if issubclass(kind, nn.modules.conv._ConvNd):
        # Grouped, DCGAN's at 16 px (width 16, batch 64, K = 14) take 0.8x to 1.3x of K convolutions on a CPU.
        return "convolutions gain nothing by it"
    return f"{kind.__name__} is not known to treat rows apart"


def stacked(networks: Sequence[nn.Module], rows: int) -> nn.Module:
    """`networks`, for which `obstacle` found nothing, as one for `rows` rows each; they become views of its stacks."""
    first = networks[0]
    kind = parametrize.type_before_parametrizations(first)
    if kind in LAYERS:
        return LAYERS[kind](networks, rows)
    whole = copy.copy(first)
    whole._modules = {
        name: stacked([n._modules[name] for n in networks], rows)  # type: ignore[misc]
        for name in first._modules
    }
    return whole


def freed(network: nn.Module) -> None:
    """Give `network` memory of its own again."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()


class Stacked(nn.Module):
    """K layers as one. `rows`: of each network. Buffers stay the layers' own."""

    spectral: ClassVar[bool] = True  # whether the weight may be spectrally normalised

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layers: Sequence[nn.Module], rows: int) -> None:
        super().__init__()
        self.num, self.rows = len(layers), rows
        self.layers: tuple[Any, ...] = tuple(layers)  # in a tuple they are no submodules
        for (name, _), *tensors in zip(
            layers[0].named_parameters(), *(layer.parameters() for layer in layers), strict=True
        ):
            plain = name.removeprefix("parametrizations.").removesuffix(".original")
            self.register_parameter(plain, nn.Parameter(_stack(tensors)))
        if "bias" not in self._parameters:
            self.register_parameter("bias", None)
        self._norms = [_norm_of(layer) for layer in layers]

    @classmethod
    def obstacle(cls, layer: nn.Module) -> str:
        """Why `layer` cannot be packed, empty where it can."""
        name = parametrize.type_before_parametrizations(layer).__name__
        if parametrize.is_parametrized(layer) and (not cls.spectral or _norm_of(layer) is None):
            return f"{name} has a parametrization other than spectral norm of its weight"
        return ""

    def _by_network(self, x: Tensor) -> Tensor:
        """(K * N, ...) → (K, N, ...)."""
        if len(x) != self.num * self.rows:
            raise RuntimeError(
                f"a packed network was given {len(x)} rows instead of {self.num} x {self.rows}: the family's objective "
                "joins or leaves out rows, so it cannot be packed; set row_wise = False on the family"
            )
        return x.view(self.num, self.rows, *x.shape[1:])

    def _weight(self) -> Tensor:
        """The weights, (K, ...), normalised where the layers' are (each use is one more power iteration)."""
        if self._norms[0] is None:
            # A use of its own: torch, too, adds up the gradients of each pass before those of several.
            return self.weight.view_as(self.weight)
        return torch.stack([norm(w) for norm, w in zip(self._norms, self.weight, strict=True) if norm])


class _Affine(torch.autograd.Function):
    """x (K, N, I), weight (K, O, I), bias (K, O) or none → (K, N, O).

    Autograd's own gradient by the weights would be strided like their transpose, and to copy it costs more than to
    compute it. A gradient that is itself differentiated is one by the rows, as penalties are: the product by which
    it would depend on the weights' own gradient is left out.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        by_rows, *by_tensors = ctx.needs_input_grad
        by_weight, by_bias = (wanted and not torch.is_grad_enabled() for wanted in by_tensors)
        return (
            torch.bmm(by_out, weight) if by_rows else None,
            torch.bmm(by_out.mT, x) if by_weight else None,
            by_out.sum(1) if by_bias else None,
        )


class Linear(Stacked):
    """(K * N, ..., inputs) → (K * N, ..., outputs)."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self._by_network(x).flatten(1, -2)
        weight = self._weight()
        if weight.shape[1] == 1:
            # torch takes a single column for a vector, whose products it adds up in another order than a matrix's.
            biases = [None] * self.num if self.bias is None else self.bias.unbind()
            out = torch.stack([F.linear(*one) for one in zip(rows, weight, biases, strict=True)])
        else:
            out = _Affine.apply(rows, weight, self.bias)
        return out.view(*x.shape[:-1], -1)


class BatchNorm(Stacked):
    """Batch norm of each network's rows, with its own running statistics."""

    spectral = False

    @classmethod
    def obstacle(cls, layer: nn.Module) -> str:
        if layer.momentum is None or not layer.affine or not layer.track_running_stats:
            return "batch norm without momentum, weights or running statistics"
        return super().obstacle(layer)

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        parts = zip(self.layers, self._by_network(x), self.weight, self.bias, strict=True)
        # A batch norm each: side by side in one they would have to be copied, and add up in another order.
        return torch.cat([_batch_norm(layer, rows, weight, bias) for layer, rows, weight, bias in parts])


LAYERS: dict[type[nn.Module], type[Stacked]] = {
    nn.Linear: Linear,
    SyncBatchNorm: BatchNorm,
    nn.BatchNorm1d: BatchNorm,
    nn.BatchNorm2d: BatchNorm,
}


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors as one, which they become views of."""
    stack = torch.stack([t.detach() for t in tensors])
    for tensor, view in zip(tensors, stack.unbind(), strict=True):
        tensor.data = view
    return stack


def _batch_norm(layer: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The layer in training, with its running statistics."""
    layer.num_batches_tracked.add_(1)
    mean, var = layer.running_mean, layer.running_var
    return F.batch_norm(x, mean, var, weight, bias, True, layer.momentum, layer.eps)


def _norm_of(layer: nn.Module) -> _SpectralNorm | None:
    """The spectral norm of the layer's weight, if that is its only parametrization."""
    if not parametrize.is_parametrized(layer):
        return None
    found = dict(layer.parametrizations)  # type: ignore[arg-type]
    norms = list(found.get("weight", []))
    alone = len(found) == len(norms) == 1 and isinstance(norms[0], _SpectralNorm)
    return norms[0] if alone else None
