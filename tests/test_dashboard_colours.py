"""The dashboard's colours, as its style sheet has them: text can be read, and the colour-blind tell curves apart."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from orchestrator.dashboard import pages

CSS = pages.TEMPLATES.with_name("static") / "css" / "base.css"
BLOCKS = [
    dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{3,6})", block))
    for block in re.findall(r"\{([^{}]*--page:[^{}]*)\}", CSS.read_text())
]
SCHEMES = {"light": BLOCKS[0], "dark": BLOCKS[1]}
CURVES = [f"c{i}" for i in range(8)]
READ = 4.5  # WCAG 2.2, 1.4.3: text
SEEN = 3.0  # 1.4.11: what is not text
APART = 10.0  # CIE 1976 colour difference, of which about 2 can just be told

# What each kind of eye sees of linear RGB: Machado, Oliveira and Fernandes (IEEE TVCG 15, 2009), severity 1.
EYES = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanope": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def linear(colour: str) -> np.ndarray:
    """Linear RGB, from 0 to 1, of `#rgb` or `#rrggbb`."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    values = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Contrast ratio (WCAG 2)."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    scaled = XYZ @ np.clip(rgb, 0, 1) / WHITE
    root = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def test_the_dark_colours_are_those_of_the_chosen_dark() -> None:
    assert len(BLOCKS) == 3
    assert BLOCKS[1] == BLOCKS[2]
    assert BLOCKS[0].keys() == BLOCKS[1].keys() >= set(CURVES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_can_be_read_on_everything_that_it_stands_on(scheme: str) -> None:
    colours, plain = SCHEMES[scheme], ("page", "raised", "sunk")
    tags = [f"{name}-back" for name in ("good", "warn", "bad")]
    pairs = [(text, back) for text in ("text", "dim", "accent", "good", "warn", "bad") for back in plain]
    pairs += [("text", back) for back in tags] + [("accent", "good-back"), ("on-accent", "accent")]
    pairs += [(back.removesuffix("-back"), back) for back in tags]
    low = {pair: round(contrast(*map(colours.__getitem__, pair)), 2) for pair in pairs}
    assert {pair: ratio for pair, ratio in low.items() if ratio < READ} == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_curves_and_the_focus_can_be_seen(scheme: str) -> None:
    colours = SCHEMES[scheme]
    low = {name: round(contrast(colours[name], colours["raised"]), 2) for name in (*CURVES, "focus")}
    assert {name: ratio for name, ratio in low.items() if ratio < SEEN} == {}


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_curves_can_be_told_apart(scheme: str, eye: str) -> None:
    seen = {name: lab(np.array(EYES[eye]) @ linear(SCHEMES[scheme][name])) for name in CURVES}
    near = {(a, b): float(np.linalg.norm(seen[a] - seen[b])) for a, b in combinations(CURVES, 2)}
    assert {pair: round(far, 1) for pair, far in near.items() if far < APART} == {}
