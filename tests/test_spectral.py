"""Spectral normalisation: what it divides by, when it iterates, what averages and other tools make of it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from gans.ema import Average
from gans.spectral import Spectral, baked, iterate, spectral
from tests.support.threads import one_thread as one_thread


def layer(outputs: int = 6, inputs: int = 4) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs)


def norm(weight: Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2))


def raw(module: nn.Module) -> Tensor:
    found = dict(module.named_parameters())["parametrizations.weight.original"]
    return found


def test_a_normalised_weight_has_spectral_norm_one_whatever_its_shape() -> None:
    torch.manual_seed(0)
    for module in (layer(6, 4), layer(4, 6), nn.Conv2d(3, 5, 3), nn.Embedding(7, 3), nn.Linear(4, 1)):
        assert abs(norm(spectral(module).weight) - 1) < 1e-5


def test_where_the_scale_is_kept_the_weight_is_unchanged_at_first_and_keeps_its_norm_when_it_moves() -> None:
    plain = layer()
    normalised = spectral(copy.deepcopy(plain), keeps_scale=True)
    torch.testing.assert_close(normalised.weight, plain.weight)
    with torch.no_grad():
        raw(normalised).mul_(7).add_(torch.randn(6, 4))
    for _ in range(200):
        iterate(normalised)
    assert abs(norm(normalised.weight) - norm(plain.weight)) < 1e-4


def test_an_update_is_followed_by_one_iteration_of_the_power_method() -> None:
    module = spectral(layer())
    with torch.no_grad():
        raw(module).add_(torch.randn(6, 4))
    (step,) = (m for m in module.modules() if isinstance(m, Spectral))
    u, w = step.u.clone(), raw(module)
    iterate(module)
    v = w.T @ u
    expected = w @ (v / v.norm())
    torch.testing.assert_close(step.u, expected / expected.norm())


def test_forward_passes_leave_the_weight_as_it_is() -> None:
    module = spectral(layer()).train()
    before = copy.deepcopy(module.state_dict())
    for _ in range(3):
        module(torch.randn(2, 4))
    assert all(v.equal(before[k]) for k, v in module.state_dict().items())


def test_the_gradient_is_that_of_the_norm_itself() -> None:
    """Miyato et al. 2018, eq. 12: sigma's gradient is u v^T, as autograd's through the singular values."""
    module, target = spectral(layer()), torch.randn(6, 4)
    (module.weight * target).sum().backward()
    w = raw(module).detach().requires_grad_(True)
    (w / torch.linalg.matrix_norm(w, 2) * target).sum().backward()
    gradient = raw(module).grad
    assert gradient is not None
    assert w.grad is not None
    torch.testing.assert_close(gradient, w.grad)


def test_an_average_of_directions_normalises_as_one_direction() -> None:
    module = spectral(layer())
    average = Average(nn.Sequential(module))
    (step,) = (m for m in average.network.modules() if isinstance(m, Spectral))
    step.u.mul_(0.3)
    torch.testing.assert_close(average.network[0].weight, module.weight)  # type: ignore[index]


def test_a_baked_copy_computes_the_same_and_the_original_stays() -> None:
    network = nn.Sequential(spectral(layer()), nn.ReLU(), spectral(layer(3, 6), keeps_scale=True))
    x = torch.randn(2, 4)
    plain = baked(network)
    torch.testing.assert_close(plain(x), network(x))
    assert list(plain.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert type(plain[0]) is nn.Linear  # type: ignore[index]
    assert len(network.state_dict()) == 8
    network(x)


def test_autocast_does_not_round_the_norm() -> None:
    module = spectral(layer())
    with torch.autocast("cpu", torch.bfloat16):
        weight = module.weight
    assert weight.equal(module.weight)
