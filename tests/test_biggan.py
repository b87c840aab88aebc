"""What makes BigGAN: conditional batch norm, chunks of the latent, attention, projection, orthogonal filters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gans.data.base import DataSpec, Field
from gans.draws import Draws
from gans.families.biggan import (
    Attention,
    BigGAN,
    ConditionalNorm,
    Discriminator,
    Generator,
    orthogonality,
    widths,
)
from gans.losses import named
from gans.spectral import Spectral, baked
from gans.training import build
from tests.support.families import CASES, CPU, DIGITS, loaded, training, with_fields
from tests.support.threads import one_thread as one_thread

SMALL = BigGAN(width=2, latent_dim=12, shared_dim=4)


def generator(config: BigGAN = SMALL, size: int = 16) -> Generator:
    torch.manual_seed(0)
    return Generator(config, size, channels=1, num_classes=3)


def discriminator(config: BigGAN = SMALL, size: int = 16) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(config, size, channels=1, num_classes=3)


def labelled(size: tuple[int, ...], num_classes: int | None = 3) -> DataSpec:
    fields = {"x": Field("image", size)}
    return DataSpec(fields if num_classes is None else {**fields, "label": Field("label", (), num_classes)})


def test_the_defaults_are_the_papers() -> None:
    family = BigGAN()
    critic, generator = family.phases()
    assert (generator.optimiser.lr, critic.optimiser.lr) == (5e-5, 2e-4)
    assert generator.optimiser.betas == (0.0, 0.999)
    assert (critic.repeats, critic.data, family.loss, family.orthogonal) == (2, "fresh", "hinge", 1e-4)


def test_the_hinge_loss_stops_where_the_margin_is_kept() -> None:
    loss = named(SMALL.loss)
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert loss.discriminator(real, fake).tolist() == [0.0, 0.5 + 1.25]
    assert loss.generator(real, fake).tolist() == [3.0, -0.25]


def test_channels_at_128_px_are_those_of_table_4() -> None:
    assert widths(1, 128) == {4: 16, 8: 16, 16: 8, 32: 4, 64: 2, 128: 1}
    d = discriminator(BigGAN(width=1, latent_dim=6, shared_dim=2), 128)
    assert [len(b.get_submodule("conv2").get_parameter("bias")) for b in d.blocks] == [1, 2, 4, 8, 16]
    assert (d.last.conv2.out_channels, d.last.halves) == (16, False)


def test_the_conditional_norm_is_batch_norm_with_gains_about_one_and_biases_of_the_condition() -> None:
    norm = ConditionalNorm(5, 3, "batch").train()
    x, c = torch.randn(4, 5, 2, 2), torch.randn(4, 3)
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    gain, bias = 1 + c @ norm.gain.weight.T, c @ norm.bias.weight.T
    expected = (x - mean) / (var + 1e-5).sqrt() * gain[..., None, None] + bias[..., None, None]
    torch.testing.assert_close(norm(x, c), expected)
    torch.testing.assert_close(norm(x, torch.zeros(4, 3)), (x - mean) / (var + 1e-5).sqrt())


def test_all_norms_share_one_embedding_of_the_class() -> None:
    g = generator().eval()
    assert [n for n, m in g.named_modules() if isinstance(m, nn.Embedding)] == ["shared"]
    norms = [m for m in g.modules() if isinstance(m, ConditionalNorm)]
    assert len(norms) == 2 * len(g.blocks)
    z = torch.randn(3, 12)
    before = g(z, torch.tensor([0, 1, 2]))
    with torch.no_grad():
        g.shared.weight[1] += 1
    changed = (g(z, torch.tensor([0, 1, 2])) - before).abs().amax((1, 2, 3)) > 0
    assert changed.tolist() == [False, True, False]


def test_each_chunk_of_the_latent_enters_at_its_own_block() -> None:
    """16 px: chunk 0 makes the 4 px map, chunks 1 and 2 condition the blocks to 8 and 16 px."""
    g = generator().eval()
    seen: list[Tensor] = []
    for block in g.blocks:
        block.register_forward_pre_hook(
            lambda _, inputs: seen.append(torch.cat([i.flatten(1) for i in inputs], 1))
        )
    z = torch.randn(1, 12)
    g(z, torch.tensor([0]))
    first = [s.clone() for s in seen]
    for chunk, expected in enumerate(([True, True], [True, True], [False, True])):
        seen.clear()
        moved = z.clone()
        moved[:, 4 * chunk : 4 * chunk + 4] += 1
        g(moved, torch.tensor([0]))
        assert [not a.equal(b) for a, b in zip(first, seen, strict=True)] == expected
    conditions = first[1][:, -8:]  # of the last block: the embedding, then chunk 2
    assert conditions.equal(torch.cat([g.shared.weight[:1], z[:, 8:]], 1))


def test_attention_begins_as_the_identity_and_is_then_sagans() -> None:
    torch.manual_seed(0)
    attention, x = Attention(16), torch.randn(2, 16, 4, 4)
    assert attention(x).equal(x)
    with torch.no_grad():
        attention.gamma.fill_(0.7)
    query, key, value, leave = (
        m.weight.flatten(1) for m in (attention.query, attention.key, attention.value, attention.leave)
    )
    for row in range(2):
        flat = x[row].flatten(1)  # (C, HW)
        pooled = [
            nn.functional.max_pool2d((w @ flat).view(1, -1, 4, 4), 2)[0].flatten(1) for w in (key, value)
        ]
        energy = (query @ flat).T @ pooled[0]
        beta = energy.exp() / energy.exp().sum(1, keepdim=True)
        expected = flat + 0.7 * leave @ (pooled[1] @ beta.T)
        torch.testing.assert_close(attention(x)[row].flatten(1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "size", "at"), [(64, 128, 64), (64, 16, 8), (8, 16, 8), (4, 16, 4), (0, 16, 0)]
)
def test_both_networks_attend_at_the_resolution_asked_for_or_half_the_picture(
    asked: int, size: int, at: int
) -> None:
    config = BigGAN(width=1, latent_dim=6, shared_dim=2, attention=asked)
    sizes: list[int] = []
    for network in (generator(config, size), discriminator(config, size)):
        sizes.clear()
        for module in network.modules():
            if isinstance(module, Attention):
                module.register_forward_hook(lambda _, inputs, out: sizes.append(out.shape[-1]))
        first = torch.zeros(2, 6) if isinstance(network, Generator) else torch.zeros(2, 1, size, size)
        network(first, torch.tensor([0, 1]))
        assert sizes == ([at] if at else [])


def test_the_discriminator_projects_features_on_the_class() -> None:
    """D(x, y) = psi(h) + <v_y, h> (Miyato and Koyama 2018, eq. 3)."""
    d, x = discriminator().eval(), torch.randn(2, 1, 16, 16)
    found: list[Tensor] = []
    d.last.register_forward_hook(lambda _, inputs, out: found.append(out.relu().sum((2, 3))))
    logits = {k: d(x, torch.full((2,), k)) for k in (0, 2)}
    h, v = found[0], d.embedding.weight
    torch.testing.assert_close(logits[2] - logits[0], h @ (v[2] - v[0]))
    torch.testing.assert_close(logits[0], d.head(h).flatten() + h @ v[0])


def test_every_weight_of_both_networks_has_spectral_norm_one_but_the_shared_embedding() -> None:
    for network in (generator(), discriminator()):
        for name, weight in baked(network).named_parameters():
            if weight.dim() > 1 and name != "shared.weight":
                assert abs(torch.linalg.matrix_norm(weight.flatten(1), 2) - 1) < 1e-4, name
    assert not any(isinstance(m, Spectral) for m in generator().shared.modules())


def test_weights_begin_orthogonal() -> None:
    for network in (generator(), discriminator()):
        for name, weight in network.named_parameters():
            if weight.dim() > 1:
                w = weight.detach().flatten(1)
                gram = w @ w.T if len(w) <= w.shape[1] else w.T @ w
                torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5, msg=name)


def test_orthogonal_regularisation_is_equation_3_off_the_diagonal_only() -> None:
    torch.manual_seed(0)
    network = nn.ModuleDict(
        {"tall": nn.Linear(3, 5), "wide": nn.Conv2d(2, 3, 3), "shared": nn.Embedding(4, 4)}
    )
    expected = torch.zeros(())
    for name in ("tall", "wide"):
        w = network[name].weight.detach().flatten(1)  # type: ignore[operator,union-attr]
        expected = expected + ((w @ w.T) * (1 - torch.eye(len(w)))).square().sum()
    torch.testing.assert_close(orthogonality(network), expected)


def test_filters_of_any_length_that_are_at_right_angles_cost_nothing() -> None:
    network = nn.Linear(3, 3)
    with torch.no_grad():
        network.weight.copy_(torch.diag(torch.tensor([5.0, 0.1, 2.0])))
    assert orthogonality(network) == 0


def test_the_generators_loss_holds_the_regularisation() -> None:
    case = with_fields(CASES["biggan"], orthogonal=10.0)
    t = training(case)
    with torch.no_grad():
        for p in t.nets["generator"].parameters():
            p.add_(0.1)
    expected = 10.0 * orthogonality(t.nets["generator"]).detach()
    t.run_step()
    torch.testing.assert_close(t.reports["orthogonal"], expected)
    without = training(with_fields(CASES["biggan"], orthogonal=0.0))
    without.run_step()
    assert "orthogonal" not in without.reports


def test_no_bias_lies_before_a_batch_norm_that_would_take_it_away() -> None:
    """Its gradient is rounding alone, which Adam makes steps of: ranks would drift apart."""
    with_norm = {
        n for n, _ in generator().named_parameters() if n.startswith("blocks") and n.endswith("bias")
    }
    assert with_norm == set()
    without = generator(SMALL.with_changes({"norm_g": "none"}))
    assert sum(n.startswith("blocks") and n.endswith("bias") for n, _ in without.named_parameters()) == 6


def test_samples_follow_the_class_asked_for() -> None:
    dataset = loaded(DIGITS)
    family = CASES["biggan"].family
    nets = build(family, dataset, seed=0)
    labels = torch.tensor([3, 3, 8])
    samples = family.sample({k: n.eval() for k, n in nets.items()}, {"label": labels}, Draws(0, 3, CPU))
    assert samples["label"].equal(labels)
    assert samples["x"].shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("family", "spec", "told"),
    [
        (SMALL, labelled((1, 16, 16), None), "needs labels"),
        (SMALL, labelled((1, 16, 8)), "must be square"),
        (SMALL, labelled((1, 24, 24)), "cannot be reached by doubling 4 px"),
        (SMALL, DataSpec({"x": Field("vector", (2,)), "label": Field("label", (), 2)}), "makes pictures"),
        (SMALL.with_changes({"attention": 12}), labelled((1, 16, 16)), "one of 0, 4, 8"),
        (SMALL.with_changes({"latent_dim": 10}), labelled((1, 16, 16)), "a multiple of 3"),
    ],
)
def test_unsuitable_data_and_fields_are_told(family: BigGAN, spec: DataSpec, told: str) -> None:
    assert told in "; ".join(family.check(spec))


def test_truncated_samples_are_made_of_latents_within_the_threshold_and_training_is_not_cut() -> None:
    family, draws = SMALL.with_changes({"truncation": 0.5}), Draws(0, 200, CPU)
    assert family.sampled_latents(draws).abs().max() <= 0.5
    assert family.latents(draws).abs().max() > 2
