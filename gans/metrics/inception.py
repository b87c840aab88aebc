"""Inception-v3 features as published FIDs use them, through torch-fidelity. Never downloads weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from gans.errors import ConfigError

#: torch-fidelity's URL of the weights, named in messages only.
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth, from torch-fidelity's release v0.2.0"


class InceptionExtractor:
    """An `Extractor` over torch-fidelity's Inception-v3: 2,048 features of the last pooling.

    Its 1,008 ImageNet classes are not the data's, so it gives no probabilities.
    """

    name = "inception-v3"

    def __init__(self, net: torch.nn.Module) -> None:
        self.net = net.eval()

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Features (N, 2048), float32, of images (N, 1 or 3, H, W) in [-1, 1], rounded to 8 bits."""
        levels = x.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        if levels.shape[1] == 1:
            levels = levels.expand(-1, 3, -1, -1)
        features: Tensor = self.net.to(x.device)(levels)[0]
        return features

    def probabilities(self, features: Tensor) -> None:
        """None: ImageNet's classes are not the data's."""
        return None


def inception_extractor(weights_path: str | Path) -> InceptionExtractor:
    """Inception-v3 with the weights at `weights_path` (torch-fidelity's .pth).

    Raises ConfigError where torch-fidelity ≥ 0.4 is not installed or the file is not those weights.
    """
    path = Path(weights_path).expanduser()
    try:
        from torch_fidelity import FeatureExtractorInceptionV3
    # A torchvision that was built for another torch fails with RuntimeError.
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"metrics extractor {str(path)!r} needs torch-fidelity: pip install ganctl[inception], and "
            f"give the path of the Inception weights, {WEIGHTS} ({str(error).splitlines()[0]})"
        ) from error
    if not path.is_file():
        raise ConfigError(f"Inception weights {str(path)!r} do not exist; give the path of {WEIGHTS}")
    try:
        # torch-fidelity unpickles freely; a file that passes here holds tensors and no code.
        torch.load(path, map_location="cpu", weights_only=True)
        net = FeatureExtractorInceptionV3("inception-v3", ["2048"], feature_extractor_weights_path=str(path))
    except (RuntimeError, EOFError, pickle.UnpicklingError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{str(path)!r} does not hold Inception-v3 weights; give the path of {WEIGHTS}"
        ) from error
    return InceptionExtractor(net)
