"""The embedded extractors for images: a small network trained on the data's labels, or left random.

Both are made of the data and a seed alone, on a generator of their own: equal data, equal features.
"""

from __future__ import annotations

import hashlib
import json

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from gans.data.base import Dataset, Field
from gans.errors import ConfigError
from gans.metrics.extractors import Cache, fetch_subset

#: Part of the cache key: raise it when the network, its training or its calibration changes.
VERSION = 1

FEATURES = 64
MAX_SIZE = 32  # px: larger images are averaged down to it
MAX_SAMPLES = 20_000  # samples read for training and calibration
HELD_OUT = 0.15  # share of them kept for the accuracy
BATCH = 64
EPOCHS = 25
MIN_STEPS, MAX_STEPS = 300, 2_000
LEARNING_RATE = 4e-3
HARDENED_STEPS, HARDENED_NOISE = 1_500, 0.5  # at least; most standard deviation, pictures being in [-1, 1]


class FeatureNet(nn.Module):
    """Convolutions that halve the image down to about 4 px, then 64 features, then a linear head if any.

    `mean`, `scale` (64,) standardise the features; `accuracy` () is on held-out samples, NaN if untrained.
    """

    mean: Tensor
    scale: Tensor
    accuracy: Tensor

    def __init__(self, x: Field, num_classes: int | None) -> None:
        super().__init__()
        channels, height, width = x.shape
        self.size = (min(height, MAX_SIZE), min(width, MAX_SIZE))
        layers: list[nn.Module] = []
        wide, size = 24, min(self.size)
        # Above 16 px the first convolution strides: full resolution costs four times as much for little.
        stride = 2 if size > 16 else 1
        size //= stride
        while True:
            layers += [nn.Conv2d(channels, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            channels, wide, stride = wide, min(2 * wide, 96), 2
            if size <= 4:
                break
            size //= 2
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(min(4, *self.size)), nn.Flatten())
        self.embed = nn.Linear(channels * min(4, *self.size) ** 2, FEATURES)
        self.head = nn.Linear(FEATURES, num_classes) if num_classes else None
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.register_buffer("accuracy", torch.tensor(float("nan")))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], any H and W → features (N, 64) before standardisation."""
        if x.shape[-2:] != self.size:
            x = F.adaptive_avg_pool2d(x, self.size)
        embedded: Tensor = self.embed(self.trunk(x))
        return embedded

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (N, K); only for a network with classes."""
        assert self.head is not None
        logits: Tensor = self.head(F.relu(self(x)))
        return logits


class ConvExtractor:
    """An `Extractor` over a `FeatureNet`. It follows its input to that input's device."""

    def __init__(self, name: str, net: FeatureNet) -> None:
        self.name = name
        self.net = net.eval().requires_grad_(False)

    @property
    def accuracy(self) -> float | None:
        """Accuracy on held-out samples of the data, in [0, 1]; None for a random network."""
        return None if self.net.head is None else float(self.net.accuracy)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Standardised features (N, 64), float32, of images (N, C, H, W) in [-1, 1]."""
        net = self.net.to(x.device)
        return (net(x.float()) - net.mean) / net.scale

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor | None:
        """Probabilities (N, K) of the data's classes; None for a random network."""
        net = self.net.to(features.device)
        return None if net.head is None else net.head(F.relu(features * net.scale + net.mean)).softmax(1)


def random_extractor(dataset: Dataset, seed: int = 0) -> ConvExtractor:
    """A seeded random network, each feature standardised on `dataset`, so that FID is 0 to ~ 10²."""
    net = _build(dataset, None, seed)
    x = fetch_subset(dataset, 2_000, seed)["x"]
    features = _embed(net, x)
    spread = features.std(0)
    net.mean.copy_(features.mean(0))
    net.scale.copy_(spread.clamp(min=1e-3 * float(spread.max()) + 1e-12))
    return ConvExtractor(f"random-v{VERSION}", net)


def classifier_extractor(
    dataset: Dataset, seed: int = 0, cache: Cache | None = None, *, hardened: bool = False
) -> ConvExtractor:
    """A small classifier of `dataset`'s labels, trained once and kept in `cache` by content.

    Its 64 penultimate features are centred and divided by one scalar, so that a feature's variance on the
    data is 1 on average. `hardened`: its pictures are blurred and get noise, and it is trained for longer, which makes
    a reader of generated pictures out of it: two plain ones of equal accuracy disagree on every sixth of those.
    Raises ConfigError without labels.
    """
    classes = dataset.spec.num_classes
    if classes is None:
        raise ConfigError("metrics extractor 'classifier' needs labels and this data has none; use 'random'")
    name = f"{'hardened-' if hardened else ''}classifier-v{VERSION}"
    key = cache_key(dataset, seed, hardened)
    stored = cache.get(key) if cache is not None else None
    net = _build(dataset, classes, seed)
    if stored is not None:
        net.load_state_dict(load(stored))
        return ConvExtractor(name, net)
    _train(net, dataset, seed, hardened)
    if cache is not None:
        cache.put(key, save({k: v.contiguous() for k, v in net.state_dict().items()}))
    return ConvExtractor(name, net)


def cache_key(dataset: Dataset, seed: int, hardened: bool = False) -> str:
    """The name under which the classifier of this data is kept: a digest of data, version and settings."""
    settings = [VERSION, seed, FEATURES, MAX_SIZE, MAX_SAMPLES, HELD_OUT, BATCH, EPOCHS, MIN_STEPS, MAX_STEPS]
    settings += [HARDENED_STEPS, HARDENED_NOISE] if hardened else []
    content = json.dumps([dataset.fingerprint(), settings, LEARNING_RATE, dataset.spec.num_classes])
    return f"classifier-{hashlib.sha256(content.encode()).hexdigest()[:32]}.safetensors"


def _build(dataset: Dataset, num_classes: int | None, seed: int) -> FeatureNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FeatureNet(dataset.spec.x, num_classes).eval()


@torch.enable_grad()
def _train(net: FeatureNet, dataset: Dataset, seed: int, hardened: bool) -> None:
    """Fit `net` to the labels by cross-entropy, measure its held-out accuracy, standardise its features."""
    data = fetch_subset(dataset, MAX_SAMPLES, seed)
    x, labels = F.adaptive_avg_pool2d(data["x"], net.size), data["label"]
    held_out = max(1, round(HELD_OUT * len(x)))
    train_x, train_labels = x[held_out:], labels[held_out:]
    batch = min(BATCH, len(train_x))
    least = HARDENED_STEPS if hardened else MIN_STEPS
    steps = min(MAX_STEPS, max(least, EPOCHS * len(train_x) // batch))
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    net.train()
    for step in range(steps):
        epoch_step = step % (len(train_x) // batch)
        if epoch_step == 0:
            order = torch.randperm(len(train_x), generator=generator)
        rows = order[epoch_step * batch : (epoch_step + 1) * batch]
        pictures = _shift(train_x[rows], generator)
        if hardened:
            pictures = _spoil(pictures, generator)
        loss = F.cross_entropy(net.logits(pictures), train_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        net.accuracy.copy_((net.logits(x[:held_out]).argmax(1) == labels[:held_out]).float().mean())
    features = _embed(net, train_x[:5_000])
    net.mean.copy_(features.mean(0))
    net.scale.fill_(float(features.var(0).mean().sqrt()) + 1e-12)


def _shift(x: Tensor, generator: torch.Generator) -> Tensor:
    """The batch moved by up to 1/8 of its size in each direction, its border repeated."""
    height, width = x.shape[-2:]
    most = min(height, width) // 8
    top, left = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    return F.pad(x, [most] * 4, mode="replicate")[..., top : top + height, left : left + width]


def _spoil(x: Tensor, generator: torch.Generator) -> Tensor:
    """The batch with blur (binomial, 3x3) and Gaussian noise, of a strength of its own for each picture."""
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    blurred = F.conv2d(F.pad(x, [1] * 4, mode="replicate"), kernel, groups=x.shape[1])
    x = x.lerp(blurred, torch.rand((len(x), 1, 1, 1), generator=generator))
    strength = HARDENED_NOISE * torch.rand((len(x), 1, 1, 1), generator=generator)
    return x + strength * torch.randn(x.shape, generator=generator)


@torch.no_grad()
def _embed(net: FeatureNet, x: Tensor) -> Tensor:
    return torch.cat([net(piece) for piece in x.split(256)])
