"""Spectral normalisation whose power iteration is a part of the update, not of the forward pass.

torch's parametrisation iterates in every forward pass in training mode, so that the weights a network computes with
depend on how often it was asked: on micro-batches, on how many pictures a critic sees. Here, as in algorithm 1 of
Miyato et al. 2018, one iteration belongs to one update: a family calls `iterate` in `after`.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

Layer = TypeVar("Layer", bound=nn.Module)


class Spectral(nn.Module):
    """W → scale W / sigma(W), of a weight (outputs, ...) as a matrix of `outputs` rows.

    `scale` is 1 (Miyato et al. 2018, eq. 8), or where `keeps_scale` the norm at initialisation, which makes the map
    the identity there (Lee et al. 2022, improved spectral normalisation). sigma = |W^T u| for the leading left
    singular vector u, exact at first and then followed by `iterate`; its gradient is u v^T as in eq. 12, since
    v = W^T u / |W^T u| is of length one. An average of u over steps is brought to length one, too.
    """

    u: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, keeps_scale: bool = False) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        u = leading(matrix)
        self.register_buffer("u", u)
        self.register_buffer("scale", (matrix.T @ u).norm() if keeps_scale else torch.ones(()))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            sigma = (weight.flatten(1).T @ normalize(self.u, dim=0)).norm()
            return weight * (self.scale / sigma)

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """One round of the power method."""
        matrix = weight.flatten(1)
        self.u.copy_(normalize(matrix @ normalize(matrix.T @ self.u, dim=0), dim=0))

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A weight that is set is kept as it is."""
        return weight


def leading(matrix: Tensor) -> Tensor:
    """The leading left singular vector of a matrix (rows, columns), by the smaller of its two Gram matrices."""
    rows, columns = matrix.shape
    if rows <= columns:
        return torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1].contiguous()
    return normalize(matrix @ torch.linalg.eigh(matrix.T @ matrix).eigenvectors[:, -1], dim=0)


def spectral(layer: Layer, keeps_scale: bool = False) -> Layer:
    """The layer, its `weight` normalised from its present value on."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    parametrize.register_parametrization(layer, "weight", Spectral(weight, keeps_scale))
    return layer


def iterate(network: nn.Module) -> None:
    """One power iteration for each normalised weight in `network`; to be called once its weights have moved."""
    for module in network.modules():
        if isinstance(module, parametrize.ParametrizationList):
            for step in module:
                if isinstance(step, Spectral):
                    step.iterate(module.original)


def baked(network: nn.Module) -> nn.Module:
    """A copy of `network` with its normalised weights as plain ones, for other tools."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            weight = module.weight
            assert isinstance(weight, Tensor)
            # torch's `remove_parametrizations` changes the class, which the copy shares with the original.
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            module.register_parameter("weight", nn.Parameter(weight.detach()))
    return network
