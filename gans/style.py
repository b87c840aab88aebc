"""What the style-based generators share: the mapping network, modulated convolution, the residual discriminator.

Karras et al. 2019 ("A Style-Based Generator Architecture for GANs"), 2020 ("Analyzing and Improving the Image
Quality of StyleGAN", called StyleGAN2 below) and 2021 (StyleGAN3). It knows nothing of losses or phases.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, one_hot

from gans.critics import deviation
from gans.equalised import EqualisedConv2d, EqualisedLinear, scaled_leaky_relu, unit_mean_square
from gans.filters import BINOMIAL, downsampled, taps, upfirdn2d


class MappingNetwork(nn.Module):
    """z (N, latent) and, with `num_classes`, label (N,) → w (N, style): normalised inputs, `depth` layers.

    The learning rate of its layers is `lr_multiplier` times the generator's (Karras et al. 2019, appendix C). The
    label is embedded to `style` entries and normalised like z. With `latent` = 0 the label alone is mapped, as in
    the discriminator of Karras et al. 2020b (StyleGAN2-ADA). `average`, the buffer of the mean w, is what truncation
    leads to; whoever trains the network keeps it (`follow`).
    """

    average: Tensor

    def __init__(
        self, latent: int, style: int, depth: int, lr_multiplier: float = 0.01, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        embedded = style if num_classes else 0
        self.embedding = EqualisedLinear(num_classes, embedded) if num_classes else None
        widths = [latent + embedded] + [style] * depth
        self.layers = nn.ModuleList(
            EqualisedLinear(a, b, lr_multiplier=lr_multiplier) for a, b in itertools.pairwise(widths)
        )
        self.register_buffer("average", torch.zeros(style))

    def forward(self, z: Tensor | None, label: Tensor | None = None) -> Tensor:
        parts = [] if z is None else [unit_mean_square(z)]
        if self.embedding is not None:
            assert label is not None
            code = one_hot(label, self.num_classes).to(self.embedding.weight.dtype)
            parts.append(unit_mean_square(self.embedding(code)))
        w = torch.cat(parts, 1)
        for layer in self.layers:
            w = scaled_leaky_relu(layer(w))
        return w

    @torch.no_grad()
    def follow(self, mean: Tensor, decay: float) -> None:
        """Let the average w go on by the mean w (style,) of a batch: average = decay * average + (1 - decay) * mean."""
        self.average.lerp_(mean, 1 - decay)

    def truncated(self, w: Tensor, psi: float) -> Tensor:
        """average + psi (w - average), w of shape (..., style) (Karras et al. 2019, section B)."""
        return torch.lerp(self.average.to(w.dtype), w, psi)


def demodulation(weight: Tensor, style: Tensor, eps: float = 1e-8) -> Tensor:
    """(N, O): 1 / sqrt(sum over i, k of (s_i w_oik)^2 + eps) for weight (O, I, k, k) and style (N, I), in float32.

    StyleGAN2, equation 3.
    """
    energy = weight.float().square().sum((2, 3))
    return torch.rsqrt((energy * style.float().square()[:, None]).sum(2) + eps)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    demodulate: bool = True,
    up: bool = False,
    filter: Tensor | None = None,
) -> Tensor:
    """Convolve row n of x (N, I, H, W) with s_ni w_oik (StyleGAN2, equation 1), divided by its norm over i and k.

    weight: (O, I, k, k), k odd. style: (N, I). With `up` the result is (N, O, 2H, 2W): a transposed convolution of
    stride 2, then `filter` (T,) or (T, T). Channels of x are scaled before and those of the result after the
    convolution, which is the same as scaling weights (section 2.2) and needs no grouped convolution, so that
    derivatives of any order and ONNX with a free batch size come for free.
    """
    k = weight.shape[2]
    x = x * style[:, :, None, None].to(x.dtype)
    if up:
        assert filter is not None
        x = conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # (2H + k - 2) pixels a side
        spare = len(filter) - 1 - (k - 2)
        x = upfirdn2d(x, filter, padding=((spare + 1) // 2, spare // 2), gain=4.0)
    else:
        x = conv2d(x, weight, padding=k // 2)
    return x * demodulation(weight, style)[:, :, None, None].to(x.dtype) if demodulate else x


class FIR(nn.Module):
    """A resampling filter as a buffer that is not saved: `kernel` (T, T), the outer product of its taps."""

    kernel: Tensor

    def __init__(self, values: Sequence[float] = BINOMIAL) -> None:
        super().__init__()
        found = taps(values)
        self.register_buffer("kernel", torch.outer(found, found), persistent=False)


class ResidualBlock(FIR):
    """(N, inputs, S, S) → (N, outputs, S/2, S/2): two 3x3 convolutions beside a 1x1 one, summed over sqrt(2).

    StyleGAN2, section 4.1: "residual discriminator"; the division keeps the variance (appendix B).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualisedConv2d(inputs, inputs, 3)
        self.second = EqualisedConv2d(inputs, outputs, 3, stride=2, padding=0)
        self.skip = EqualisedConv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = scaled_leaky_relu(self.first(x))
        h = scaled_leaky_relu(self.second(upfirdn2d(h, self.kernel, padding=(2, 2))))
        return (h + self.skip(downsampled(x, self.kernel))) * math.sqrt(0.5)


class Epilogue(nn.Module):
    """(N, C, 4, 4) → (N, outputs): minibatch standard deviation, a 3x3 convolution, two dense layers.

    `group` consecutive rows share one standard deviation, averaged over channels and pixels and joined as a constant
    plane (Karras et al. 2018, section 3); 0 leaves it out.
    """

    def __init__(self, channels: int, group: int, outputs: int = 1) -> None:
        super().__init__()
        self.group = group
        self.mix = EqualisedConv2d(channels + bool(group), channels, 3)
        self.dense = EqualisedLinear(channels * 16, channels)
        self.out = EqualisedLinear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.group:
            plane = deviation(x, self.group).to(x.dtype).view(-1, 1, 1, 1)
            x = torch.cat([x, plane.expand(-1, 1, *x.shape[2:])], 1)
        x = scaled_leaky_relu(self.mix(x))
        return self.out(scaled_leaky_relu(self.dense(x.flatten(1))))


class ResidualDiscriminator(nn.Module):
    """(N, C, S, S) → (N,) logits: a 1x1 convolution, residual blocks down to 4 px, the epilogue.

    widths: channels at S, S/2, ..., 4. With `num_classes` the logit is the epilogue's vector projected on the mapped
    label, divided by sqrt of its length (Miyato and Koyama 2018, as in Karras et al. 2020b).
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        group: int = 4,
        num_classes: int = 0,
        style: int = 0,
        mapping_depth: int = 8,
    ) -> None:
        super().__init__()
        self.enter = EqualisedConv2d(channels, widths[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise(widths))
        self.mapping = (
            MappingNetwork(0, style, mapping_depth, num_classes=num_classes) if num_classes else None
        )
        self.head = Epilogue(widths[-1], group, style if num_classes else 1)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        x = scaled_leaky_relu(self.enter(x))
        for block in self.blocks:
            x = block(x)
        x = self.head(x)
        if self.mapping is None:
            return x.flatten()
        code = self.mapping(None, label)
        return (x * code).sum(1) * (1 / math.sqrt(code.shape[1]))


def channels_at(size: int, base: int, most: int) -> int:
    """Channels of layers at `size` px: base / size, at most `most`, at least 1 (StyleGAN2, official code)."""
    return max(1, min(most, base // size))
