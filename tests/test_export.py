"""Trained models outside a run: sampling without the data set, ONNX that equals PyTorch, safetensors that rebuild."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import gans.export
from gans.checkpoint import pack, spec_from
from gans.data.base import Batch, DataSpec
from gans.draws import Draws
from gans.errors import ConfigError, DataError
from gans.export import export_onnx, export_safetensors
from gans.families import FAMILIES, family_class
from gans.family import Family, Networks
from gans.generator import Model
from tests.support.families import CASES
from tests.support.runs import state_after, tiny
from tests.support.threads import one_thread

__all__ = ["one_thread"]


def trained(tag: str) -> Model:
    family, dataset = tiny(tag)
    return Model.restore(family, dataset.spec, pack(state_after(tag)))


@pytest.fixture(scope="module")
def vanilla() -> Model:
    return trained("vanilla")


@pytest.fixture(scope="module")
def cgan() -> Model:
    return trained("cgan")


@pytest.fixture(scope="module")
def cyclegan() -> Model:
    return trained("cyclegan")


def test_samples_have_the_datas_shape_and_depend_on_the_seed(vanilla: Model) -> None:
    x = vanilla.sample(5, seed=1)["x"]
    assert tuple(x.shape) == (5, *vanilla.spec.x.shape)
    assert torch.equal(x, vanilla.sample(5, seed=1)["x"])
    assert not torch.equal(x, vanilla.sample(5, seed=2)["x"])


def test_asking_for_more_samples_keeps_the_first(vanilla: Model) -> None:
    assert torch.equal(vanilla.sample(300)["x"][:7], vanilla.sample(7)["x"])


def test_images_for_files_are_uint8_nhwc(vanilla: Model) -> None:
    images = vanilla.to_uint8(vanilla.sample(3)["x"])
    assert images.dtype == np.uint8
    assert images.shape == (3, 8, 8, 1)


def test_labels_cycle_through_all_classes_or_those_asked_for(cgan: Model) -> None:
    assert cgan.sample(12)["label"].tolist() == [*range(10), 0, 1]
    assert cgan.sample(3, labels=[7])["label"].tolist() == [7, 7, 7]
    assert not torch.equal(cgan.sample(3, labels=[7])["x"], cgan.sample(3, labels=[2])["x"])


@pytest.mark.parametrize("labels", [[10], [-1], []])
def test_labels_outside_the_classes_are_refused(cgan: Model, labels: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"classes are 0\.\.9"):
        cgan.sample(2, labels=labels)


def test_labels_for_a_family_without_are_refused(vanilla: Model) -> None:
    with pytest.raises(ConfigError, match="takes no labels"):
        vanilla.sample(2, labels=[1])


def test_pictures_are_mapped_and_cycle_when_few(cyclegan: Model) -> None:
    rows = {k: torch.rand(2, 1, 16, 16) * 2 - 1 for k in ("a", "b")}
    samples = cyclegan.sample(4, inputs=rows)
    assert torch.equal(samples["x"][:2], samples["x"][2:])


def test_missing_or_misshapen_pictures_are_refused(cyclegan: Model) -> None:
    with pytest.raises(DataError, match="needs inputs a, b, and a is missing"):
        cyclegan.sample(4)
    with pytest.raises(DataError, match=r"shape \(3, 16, 16\); the model takes \(1, 16, 16\)"):
        cyclegan.sample(4, inputs={k: torch.zeros(2, 3, 16, 16) for k in ("a", "b")})


def test_less_than_one_sample_is_refused(vanilla: Model) -> None:
    with pytest.raises(ConfigError, match="num 0"):
        vanilla.sample(0)


@pytest.mark.parametrize("tag", [*FAMILIES, *(name for name in CASES if name.endswith("-judged"))])
def test_onnx_equals_the_models_own_samples_at_any_batch_size(tag: str, tmp_path: Path) -> None:
    model = trained(tag)
    difference = export_onnx(model, tmp_path / "model.onnx")
    assert difference is not None
    assert difference <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for num in (1, 7):
        inputs, expected = drawn(model, num)
        got = session.run(["x"], {k: v.numpy() for k, v in inputs.items()})[0]
        assert got.shape == tuple(expected.shape)
        np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)


def drawn(model: Model, num: int) -> tuple[Batch, Tensor]:
    """Inputs for the ONNX file, and what the model samples from just these.

    Of a family that samples from more than what its file takes (a target, noise), what the exported module makes.
    """
    family = model.family
    module, example = family.exported(model.networks, model.spec)
    if set(example) == set(model.asks) & {"a"}:
        rows = {k: torch.rand(num, *model.spec.fields[k].shape) * 2 - 1 for k in model.asks}
        return {"a": rows["a"]}, model.sample(num, inputs=rows)["x"]
    if model.asks or not set(example) <= {"z", "label"}:
        inputs = {k: v[torch.arange(num) % len(v)] for k, v in example.items()}
        with torch.no_grad():
            return inputs, module(*inputs.values())
    draws = Draws(0, 256, torch.device("cpu"))  # sampling draws whole chunks of 256 and keeps the first
    draws.restart(0)
    samples = model.sample(num)
    z: Tensor = family.latents(draws)  # type: ignore[attr-defined]
    return {"z": z[:num], **{k: v for k, v in samples.items() if k == "label"}}, samples["x"]


def test_spectral_norm_in_the_generator_survives_onnx(tmp_path: Path) -> None:
    family, dataset = tiny("dcgan", norm_g="spectral")
    model = Model.restore(family, dataset.spec, pack(state_after("dcgan", norm_g="spectral")))
    assert (export_onnx(model, tmp_path / "model.onnx") or 0.0) <= 1e-4


def test_the_onnx_file_says_what_it_is_and_the_model_stays_as_it_was(vanilla: Model, tmp_path: Path) -> None:
    before = vanilla.sample(4)["x"]
    export_onnx(vanilla, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("z", ["batch", 32])]
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["family"] == "vanilla"
    assert spec_from(json.loads(properties["spec"])) == vanilla.spec
    assert properties["output_digital_source_type"].endswith("trainedAlgorithmicMedia")
    assert torch.equal(before, vanilla.sample(4)["x"])


class Frozen(nn.Module):
    """Traced, its output depends on the example's batch size."""

    def forward(self, z: Tensor) -> Tensor:
        return z / len(z.tolist())


class Strange(Family):
    """Exports a module that cannot be traced for every batch size."""

    def exported(self, nets: Networks, spec: DataSpec) -> tuple[nn.Module, Batch]:
        return Frozen(), {"z": torch.ones(2, 3)}


def test_a_module_that_cannot_be_traced_is_one_clear_line_and_no_file(vanilla: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Strange cannot be traced for ONNX") as caught:
        export_onnx(Model(Strange(), vanilla.spec, {}), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_from_pytorch_is_not_written(
    vanilla: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gans.export, "TOLERANCE", -1.0)
    with pytest.raises(ConfigError, match="differs from PyTorch"):
        export_onnx(vanilla, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_family_without_an_exported_module_says_so(vanilla: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Family cannot be exported to ONNX.*safetensors"):
        export_onnx(Model(Family(), vanilla.spec, {}), tmp_path / "model.onnx")


def test_without_onnx_the_error_names_the_extra(
    vanilla: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gans.export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ConfigError, match=r'needs onnxscript: pip install "ganctl\[onnx\]"'):
        export_onnx(vanilla, tmp_path / "model.onnx")


@pytest.mark.parametrize("tag", ["vanilla", "r3gan", "cyclegan"])
def test_safetensors_rebuild_the_networks_that_sample(tag: str, tmp_path: Path) -> None:
    model = trained(tag)
    path = tmp_path / "model.safetensors"
    path.write_bytes(export_safetensors(model))
    with safe_open(path, "pt") as file:
        about = file.metadata()
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  # not a dict
    family = family_class(about["family"]).model_validate_json(about["config"])
    assert family == model.family
    networks = family.networks(spec_from(json.loads(about["spec"])))
    for name in family.averaged:
        prefix = f"{name}."
        networks[name].load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        expected = model.networks[name].state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in networks[name].state_dict().items())
