"""What papers report on the protocols, to stand beside our own figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Figures of `method` as `source` gives them: modes, reverse KL in nats, share of high quality in [0, 1]."""

    method: str
    source: str
    modes: float
    kl: float
    hq: float | None = None
    modes_sd: float | None = None


_PAC = "Lin et al. 2018"
_PAC_RERUN = "Lin et al. 2018, their rerun"
_VEEGAN = "Srivastava et al. 2017"
_R3 = "Huang et al. 2024"

RING = (
    Published("gan", _PAC, 6.3, 0.45, 0.982, 0.5),
    Published("ali", _PAC, 6.6, 0.36, 0.976),
    Published("pacgan2", _PAC, 7.9, 0.07, 0.956, 0.1),
    Published("pacgan4", _PAC, 7.8, 0.07, 0.959),
)
GRID = (
    Published("gan", _PAC, 17.3, 0.70, 0.948, 0.8),
    Published("ali", _PAC, 24.1, 0.14, 0.957),
    Published("pacgan2", _PAC, 23.8, 0.13, 0.913),
    Published("pacgan4", _PAC, 24.8, 0.04, 0.936, 0.2),
)
STACKED = (
    Published("gan", _VEEGAN, 99, 3.40),
    Published("gan", _PAC_RERUN, 78.9, 4.50),
    Published("unrolled", _VEEGAN, 48.7, 4.32),
    Published("veegan", _VEEGAN, 150, 2.95),
    Published("pacgan2", _PAC_RERUN, 1000, 0.06),
    Published("stylegan2", _R3, 940, 0.42),
    Published("r3gan", _R3, 1000, 0.029),
)
"""Of stacked MNIST. `gan` is DCGAN, `pacgan2` is PacDCGAN2."""
