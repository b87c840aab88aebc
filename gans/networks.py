"""The two plain architectures that several families share: multilayer perceptrons and DCGAN's convolutions."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gans.convolution import Collapse, Double, Expand, Halve
from gans.data.base import Field
from gans.nn import Norm, Reshape, levels, normalisation, weighted


def mlp(
    inputs: int, width: int, depth: int, norm: Norm, activation: type[nn.Module], outputs: int
) -> nn.Sequential:
    """`depth` hidden layers of `width`, normalised, and a linear output. (N, inputs) → (N, outputs)."""
    widths = [inputs] + [width] * depth
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [weighted(nn.Linear(a, b), norm), normalisation(norm, b), activation()]
    return nn.Sequential(*layers, weighted(nn.Linear(width, outputs), norm))


class LeakyReLU(nn.LeakyReLU):
    """Slope 0.2, the GAN literature's choice."""

    def __init__(self) -> None:
        super().__init__(0.2)


def mlp_generator(shape: tuple[int, ...], latent: int, width: int, depth: int, norm: Norm) -> nn.Module:
    """(N, latent) → (N, *shape); pictures are squashed to [-1, 1]."""
    squash = nn.Tanh() if len(shape) == 3 else nn.Identity()
    body = mlp(latent, width, depth, norm, nn.ReLU, math.prod(shape))
    return nn.Sequential(body, squash, Reshape(*shape))


def mlp_discriminator(shape: tuple[int, ...], width: int, depth: int, norm: Norm) -> nn.Module:
    """(N, *shape) → (N,) logits."""
    return nn.Sequential(nn.Flatten(), mlp(math.prod(shape), width, depth, norm, LeakyReLU, 1), nn.Flatten(0))


def conv_generator(shape: tuple[int, ...], latent: int, width: int, norm: Norm) -> nn.Module:
    """DCGAN's generator: (N, latent) → (N, C, S, S) in [-1, 1], S = 4 * 2^n, by strided convolutions.

    Radford et al. 2016, section 3: no pooling, no hidden dense layer, a norm on every layer but the output.
    """
    channels, size, _ = shape
    n = levels(size)
    widths = [width * 2 ** (n - 1 - i) for i in range(n)]
    layers: list[nn.Module] = [
        Reshape(latent, 1, 1),
        weighted(Expand(latent, widths[0], bias=norm != "batch"), norm),
        normalisation(norm, widths[0]),
        nn.ReLU(),
    ]
    for a, b in itertools.pairwise(widths):
        up = weighted(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=norm != "batch"), norm)
        layers += [up, normalisation(norm, b), nn.ReLU()]
    return initialise(nn.Sequential(*layers, Double(widths[-1], channels), nn.Tanh()))


def conv_discriminator(shape: tuple[int, ...], width: int, norm: Norm) -> nn.Module:
    """DCGAN's discriminator: (N, C, S, S) → (N,) logits; LeakyReLU, a norm on every layer but the input."""
    channels, size, _ = shape
    widths = [width * 2**i for i in range(levels(size))]
    layers: list[nn.Module] = [weighted(Halve(channels, widths[0]), norm), LeakyReLU()]
    for a, b in itertools.pairwise(widths):
        down = weighted(nn.Conv2d(a, b, 4, 2, 1, bias=norm != "batch"), norm)
        layers += [down, normalisation(norm, b), LeakyReLU()]
    return initialise(nn.Sequential(*layers, weighted(Collapse(widths[-1], 1), norm), nn.Flatten(0)))


def plain_pair(
    made: Field, latent: int, width: int, depth: int, norm_g: Norm, norm_d: Norm
) -> dict[str, nn.Module]:
    """Generator and critic by what they make: convolutions for pictures, perceptrons of `depth` layers for vectors.

    A critic of vectors has no norm.
    """
    if made.kind == "image":
        return {
            "generator": conv_generator(made.shape, latent, width, norm_g),
            "discriminator": conv_discriminator(made.shape, width, norm_d),
        }
    return {
        "generator": mlp_generator(made.shape, latent, width, depth, norm_g),
        "discriminator": mlp_discriminator(made.shape, width, depth, "none"),
    }


def initialise(network: nn.Module, std: float = 0.02) -> nn.Module:
    """Normal(0, std) weights and zero biases for convolutions (Radford et al. 2016, section 4)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            tensors = dict(module.named_parameters())  # spectral norm keeps the weight under another name
            weight = tensors.get("weight", tensors.get("parametrizations.weight.original"))
            assert weight is not None
            nn.init.normal_(weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class LabelledGenerator(nn.Module):
    """A generator of (z, label): the label joins the latent as one-hot (Mirza and Osindero 2014)."""

    def __init__(self, body: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.body, self.num_classes = body, num_classes

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.body(torch.cat([z, one_hot(label, self.num_classes).to(z.dtype)], 1))


class LabelledDiscriminator(nn.Module):
    """A discriminator of (x, label): the label joins x as constant planes (pictures) or one-hot (vectors)."""

    def __init__(self, body: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.body, self.num_classes = body, num_classes

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        code = one_hot(label, self.num_classes).to(x.dtype)
        if x.dim() == 4:
            code = code[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.body(torch.cat([x, code], 1))
