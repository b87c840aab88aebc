"""What the discriminator is shown: resampling, ADA's pipeline and its probability, DiffAugment."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import gans.warp
from gans.augment import Adaptive, DiffAugment, Part
from gans.draws import Draws
from gans.families.dcgan import DCGAN
from gans.family import Step
from gans.judged import remember
from gans.penalties import zero_centred
from gans.warp import SYM6, shifted, warped
from tests.support.families import CPU, DIGITS, Case, training
from tests.support.scripted import Scripted
from tests.support.threads import one_thread as one_thread

PARTS: tuple[Part, ...] = ("blit", "geometry", "colour")
OFF, ON = 1.0, 0.0  # uniform values that are above and below every probability


def pictures(num: int, channels: int = 1, size: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num, channels, size, size, generator=generator, dtype=dtype) * 2 - 1


def turn(angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[[cos, -sin], [sin, cos]]], dtype=torch.double)


def row(*values: float) -> Tensor:
    return torch.tensor([values])


# --- moving pictures


def test_whole_pixels_move_and_what_comes_in_is_mirrored_or_zero() -> None:
    x = torch.arange(1.0, 5.0).repeat(4, 1)[None, None]  # columns 1 2 3 4
    right, left = torch.tensor([1]), torch.tensor([-2])
    still = torch.zeros(1, dtype=torch.int64)
    assert shifted(x, still, right, mirrored=True)[0, 0, 0].tolist() == [2, 1, 2, 3]
    assert shifted(x, still, left, mirrored=True)[0, 0, 0].tolist() == [3, 4, 3, 2]
    assert shifted(x, still, left, mirrored=False)[0, 0, 0].tolist() == [3, 4, 0, 0]
    assert shifted(x.mT, right, still, mirrored=False)[0, 0, :, 0].tolist() == [0, 1, 2, 3]


def test_the_wavelets_filter_is_orthonormal_to_its_even_shifts() -> None:
    h = torch.tensor(SYM6, dtype=torch.double)
    assert h.sum().item() == pytest.approx(math.sqrt(2))
    for shift in range(0, 12, 2):
        assert (h[shift:] @ h[: 12 - shift]).item() == pytest.approx(float(shift == 0), abs=1e-9)


@pytest.mark.parametrize("shape", [(8, 8), (2, 2), (6, 12)])
def test_resampling_by_the_identity_gives_the_picture_back(shape: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *shape, dtype=torch.double)
    same = warped(x, torch.eye(2, dtype=torch.double).expand(2, 2, 2), torch.zeros(2, 2, dtype=torch.double))
    torch.testing.assert_close(same, x)


def test_resampling_by_whole_pixels_moves_the_pictures_inside_exactly() -> None:
    x = pictures(1, 1, 16, torch.double)
    moved = warped(x, turn(0.0), torch.tensor([[2.0, -1.0]], dtype=torch.double))
    there = shifted(x, torch.tensor([-1]), torch.tensor([2]), mirrored=True)
    inner = (..., slice(4, 12), slice(4, 12))  # beyond the border fine pixels are mirrored, not pixels
    torch.testing.assert_close(moved[inner], there[inner])


def test_a_smooth_picture_is_looked_up_where_the_map_says() -> None:
    """A plane wave of 1/12 cycles a pixel, turned and scaled, is the wave with its wave vector mapped."""
    size, places = 32, torch.arange(32, dtype=torch.double) - 15.5
    y, x = torch.meshgrid(places, places, indexing="ij")

    def wave(vector: Tensor) -> Tensor:
        return torch.cos(2 * math.pi * (vector[0] * x + vector[1] * y))[None, None]

    vector = torch.tensor([0.08, 0.02], dtype=torch.double)
    matrix = 0.9 * turn(0.4)
    got = warped(wave(vector), matrix, torch.zeros(1, 2, dtype=torch.double))
    inner = (..., slice(10, size - 10), slice(10, size - 10))
    assert (got - wave(matrix[0].T @ vector))[inner].abs().max() < 0.03


def test_large_pictures_are_filtered_by_convolution_to_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, offset = pictures(2, 3, 9, torch.double), torch.tensor([[0.5, 3.0], [-7.0, 0.2]], dtype=torch.double)
    matrix = torch.cat([0.7 * turn(2.0), 1.4 * turn(-0.5)])
    dense = warped(x, matrix, offset)
    monkeypatch.setattr(gans.warp, "_DENSE", 0)
    torch.testing.assert_close(warped(x, matrix, offset), dense)


def test_resampling_has_first_and_second_derivatives() -> None:
    x = pictures(1, 1, 4, torch.double).requires_grad_(True)
    matrix, offset = 1.1 * turn(0.3), torch.tensor([[0.4, -0.7]], dtype=torch.double)

    def squared(x: Tensor) -> Tensor:
        return warped(x, matrix, offset).square()

    assert torch.autograd.gradcheck(squared, x)
    assert torch.autograd.gradgradcheck(squared, x)


# --- ADA's pipeline


@pytest.mark.parametrize("channels", [1, 3])
def test_at_probability_zero_pictures_are_as_they_were(channels: int) -> None:
    x = pictures(8, channels)
    assert Adaptive(PARTS)(x, Draws(0, 8, CPU)).equal(x)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_at_probability_one_every_picture_is_another_finite_one(channels: int) -> None:
    x = pictures(8, channels)
    shown = Adaptive(PARTS, 1.0)(x, Draws(0, 8, CPU))
    assert shown.shape == x.shape
    assert torch.isfinite(shown).all()
    assert (shown - x).abs().flatten(1).amax(1).gt(1e-3).all()


def test_moving_keeps_what_is_the_same_everywhere() -> None:
    x = torch.linspace(-1, 1, 16)[:, None, None, None].expand(-1, 1, 8, 8)
    shown = Adaptive(("blit", "geometry"), 1.0)(x, Draws(0, 16, CPU))
    torch.testing.assert_close(shown, x)


@pytest.mark.parametrize("p", [0.2, 0.6])
def test_each_transformation_has_the_probability_p(p: float) -> None:
    """Blits: mirrored for p/2, turned for 3p/4 of the pictures; at 4 px nothing moves by a whole pixel. Geometry: three
    maps for p each, and a turn before or after for p: untouched are (1 - p)^4."""
    x, draws = pictures(4000, 1, 4), Draws(0, 4000, CPU)
    for part, untouched in (("blit", (1 - p / 2) * (1 - 3 * p / 4)), ("geometry", (1 - p) ** 4)):
        shown = Adaptive((part,), p)(x, draws)  # type: ignore[arg-type]
        same = (shown == x).flatten(1).all(1).float().mean().item()
        assert same == pytest.approx(untouched, abs=0.03)


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ((ON, OFF, OFF, 0.5, 0.5), lambda x: x.flip(3)),
        ((OFF, ON, OFF, 0.5, 0.5), lambda x: x.rot90(2, (2, 3))),
        ((OFF, OFF, ON, 0.5, 0.5), lambda x: x.rot90(1, (2, 3))),
        ((OFF, ON, ON, 0.5, 0.5), lambda x: x.rot90(3, (2, 3))),
        ((OFF, OFF, OFF, 1.0, 0.0), lambda x: shifted(x, torch.tensor([1]), torch.tensor([-1]), True)),
    ],
)
def test_blits_are_exact(drawn: tuple[float, ...], expected: object) -> None:
    x = pictures(1)
    shown = Adaptive(("blit",), 1.0)(x, Scripted(1, [torch.zeros(1, 3), row(*drawn)]))
    assert shown.equal(expected(x))  # type: ignore[operator]


def colour_matrix(b: float, c: float, flip: bool, angle: float, s: float) -> Tensor:
    """Karras et al. 2020b, appendix B: the product of 4x4 matrices on (r, g, b, 1), v the grey axis."""
    v = torch.tensor([1, 1, 1, 0], dtype=torch.double) / math.sqrt(3)
    across = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.double) / math.sqrt(3)
    eye, grey = torch.eye(4, dtype=torch.double), torch.outer(v, v)
    shift = eye.clone()
    shift[:3, 3] = b
    hue = eye.clone()
    hue[:3, :3] = (
        math.cos(angle) * torch.eye(3) + math.sin(angle) * across + (1 - math.cos(angle)) * grey[:3, :3]
    )
    steps = [shift, torch.diag(torch.tensor([c, c, c, 1.0], dtype=torch.double)), eye - 2 * flip * grey, hue]
    matrix = eye
    for step in [*steps, grey + (eye - grey) * s]:
        matrix = step @ matrix
    return matrix


def test_colours_change_by_the_papers_matrices() -> None:
    x = pictures(1, 3)
    normals, uniforms = (0.7, -0.4, 0.5), (ON, 0.8)
    values = [torch.zeros(1, 5), row(*normals), row(*uniforms)]
    shown = Adaptive(("colour",), 1.0)(x, Scripted(1, values))
    matrix = colour_matrix(
        0.2 * normals[0], 2 ** (0.5 * normals[1]), True, (2 * uniforms[1] - 1) * math.pi, 2 ** normals[2]
    )
    rgb1 = torch.cat([x[0].double(), torch.ones(1, 8, 8, dtype=torch.double)])
    expected = torch.einsum("ij,jhw->ihw", matrix, rgb1)[:3]
    torch.testing.assert_close(shown[0].double(), expected, atol=1e-5, rtol=1e-5)


def test_grey_pictures_change_brightness_and_contrast_and_are_inverted() -> None:
    x = pictures(1)
    values = [torch.zeros(1, 5), row(0.7, -0.4, 0.5), row(ON, 0.8)]
    shown = Adaptive(("colour",), 1.0)(x, Scripted(1, values))
    torch.testing.assert_close(shown, -((x + 0.2 * 0.7) * 2 ** (0.5 * -0.4)))


def test_two_ranks_show_the_rows_that_one_does() -> None:
    x, pipeline = pictures(9, 3), Adaptive(PARTS, 0.7)
    whole = pipeline(x, Draws(0, 9, CPU))
    parts = [pipeline(x[a:b], Draws(0, 9, CPU, rank, 2)) for rank, (a, b) in enumerate([(0, 5), (5, 9)])]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_r1_reaches_the_critic_through_the_pipeline() -> None:
    """D(x) = w . T(x) with T(x) = A x + b: |grad D|^2 / 2 is |A^T w|^2 / 2, whose gradient by w is A A^T w."""
    pipeline, x = Adaptive(PARTS, 1.0), pictures(1, 1, 4).requires_grad_(True)

    def shown(x: Tensor) -> Tensor:
        return pipeline(x.view(1, 1, 4, 4), Draws(5, 1, CPU)).flatten()

    a = torch.autograd.functional.jacobian(shown, x.detach().flatten())
    w = torch.linspace(-1, 1, 16).requires_grad_(True)
    penalty = zero_centred((w * shown(x))[None].sum(1), x)
    (gradient,) = torch.autograd.grad(penalty.sum(), w)
    torch.testing.assert_close(gradient, a @ a.T @ w.detach(), rtol=1e-4, atol=1e-5)
    assert gradient.abs().sum() > 0.1


# --- ADA's probability


def test_p_moves_every_few_steps_by_the_rows_seen_since() -> None:
    family = DCGAN(width=4, latent_dim=8, augment="ada", ada_every=4, ada_images=1000)
    t = training(Case(family, DIGITS))
    seen = []
    for _ in range(8):
        t.run_step()
        seen.append(t.nets["augment"].get_buffer("p").item())
    assert seen[:3] == [0, 0, 0]
    assert seen[3] == seen[4] == seen[6]
    assert seen[3] in (0, pytest.approx(32 / 1000))
    assert t.memory["ada"].eq(0).all()


def test_p_is_led_to_where_the_discriminator_is_right_as_often_as_the_target() -> None:
    """A critic whose E[sign D(real)] is 0.9 - 0.5 p meets the target 0.6 at p = 0.6."""
    family = DCGAN(width=4, latent_dim=8, augment="ada", ada_every=1, ada_images=5000)
    t = training(Case(family, DIGITS), batch=64)
    p, generator = t.nets["augment"].get_buffer("p"), torch.Generator().manual_seed(0)
    for _ in range(300):
        right = torch.rand(64, generator=generator) < (1 + 0.9 - 0.5 * p) / 2
        remember(t.memory, right.float() * 2 - 1, torch.zeros(64))
        family.after("critic", t.nets, Step({}, t.draws, t.sync, memory=t.memory))
    assert p.item() == pytest.approx(0.6, abs=0.1)
    p.fill_(1.0)
    remember(t.memory, torch.ones(64), torch.zeros(64))
    family.after("critic", t.nets, Step({}, t.draws, t.sync, memory=t.memory))
    assert p == 1.0


def test_a_fixed_p_stays_and_remembers_nothing() -> None:
    t = training(Case(DCGAN(width=4, latent_dim=8, augment="ada", augment_p=0.3), DIGITS))
    for _ in range(4):
        t.run_step()
    assert t.nets["augment"].get_buffer("p") == pytest.approx(0.3)
    assert not t.memory


@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
def test_every_judgement_in_training_is_of_augmented_rows(loss: str) -> None:
    family = DCGAN(width=4, latent_dim=8, augment="diff", loss=loss, r1=1.0, penalty_every=2)  # type: ignore[arg-type]
    t = training(Case(family, DIGITS))
    shown: list[Tensor] = []
    t.nets["augment"].register_forward_hook(lambda _, args, out: shown.append(out))
    judged: list[Tensor] = []
    t.nets["discriminator"].register_forward_pre_hook(lambda _, args: judged.append(args[0]))
    for phase in family.phases():
        shown.clear()
        judged.clear()
        t.phases = (replace(phase, every=1),)
        t.run_step()
        assert all(any(x is rows for rows in shown) for x in judged)
        # R1 asks for the real rows' logits alone.
        assert len(judged) == (1 if phase.name == "penalty" else len(shown)) > 0


# --- DiffAugment


def test_cutout_blanks_a_square_of_half_the_side() -> None:
    x = torch.ones(500, 1, 16, 16)
    shown = DiffAugment(("cutout",))(x, Draws(0, 500, CPU))
    blank = shown[:, 0] == 0
    sides = blank.any(2).sum(1), blank.any(1).sum(1)
    assert (blank.sum((1, 2)) == sides[0] * sides[1]).all()
    assert all(side.max() == 8 and side.min() == 4 for side in sides)  # a half of it may lie outside
    assert (sides[0] == 8).float().mean().item() == pytest.approx(9 / 17, abs=0.07)


def test_translation_moves_by_up_to_an_eighth_and_leaves_zeros() -> None:
    x = torch.zeros(500, 1, 16, 16)
    x[:, :, 8, 8] = 1.0
    shown = DiffAugment(("translation",))(x, Draws(0, 500, CPU))
    places = shown[:, 0].nonzero()[:, 1:] - 8
    assert len(places) == 500
    assert {tuple(p) for p in places.tolist()} == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    assert DiffAugment(("translation",))(torch.ones(50, 1, 16, 16), Draws(0, 50, CPU)).unique().tolist() == [
        0,
        1,
    ]


def test_colour_changes_brightness_saturation_and_contrast_in_this_order() -> None:
    x = pictures(1, 3)
    shown = DiffAugment(("colour",))(x, Scripted(1, [row(0.9, 0.25, 0.1)]))
    bright = x + 0.4
    mean = bright.mean(1, keepdim=True)
    saturated = (bright - mean) * 0.5 + mean
    mean = saturated.mean()
    torch.testing.assert_close(shown, (saturated - mean) * 0.6 + mean)


def test_gradients_reach_the_picture_through_diffaugment() -> None:
    x = pictures(4).requires_grad_(True)
    shown = DiffAugment(("colour", "translation", "cutout"))(x, Draws(0, 4, CPU))
    (gradient,) = torch.autograd.grad(shown.square().sum(), x)
    assert gradient.flatten(1).abs().sum(1).gt(0).all()


@pytest.mark.parametrize("augment", ["ada", "diff"])
def test_pictures_that_are_not_square_are_shown_too(augment: str) -> None:
    pipeline = Adaptive(PARTS, 1.0) if augment == "ada" else DiffAugment(("translation", "cutout"))
    x = torch.rand(3, 1, 8, 12)
    assert pipeline(x, Draws(0, 3, CPU)).shape == x.shape
