"""Pictures: every sample is where it should be, and every PNG says what it is."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from gans.data.base import to_float
from gans.errors import DataError
from gans.families.cyclegan import CycleGAN
from gans.families.vanilla import Vanilla
from gans.pictures import (
    FAKE,
    REAL,
    SYNTHETIC,
    XMP_KEY,
    encode,
    grid,
    picture_of,
    read_metadata,
    scatter,
    to_uint8,
)

META = {"run": "20260101-abc", "step": "1200", "seed": "3"}


def shades(num: int, size: int = 4, channels: int = 1) -> torch.Tensor:
    """`num` pictures, each of one grey: the i-th at i / (num - 1)."""
    return torch.linspace(-1, 1, num).view(num, 1, 1, 1).expand(num, channels, size, size)


def centres(image: Image.Image, across: int, down: int) -> np.ndarray:
    """The pixel in the middle of each of `down` x `across` cells."""
    pixels = np.asarray(image)
    rows = ((np.arange(down) + 0.5) / down * pixels.shape[0]).astype(int)
    columns = ((np.arange(across) + 0.5) / across * pixels.shape[1]).astype(int)
    return pixels[np.ix_(rows, columns)]


def test_every_uint8_survives_the_way_to_float_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    back = to_uint8(to_float({"x": values})["x"])
    assert back.dtype == np.uint8
    assert np.array_equal(back, values.permute(0, 2, 3, 1).numpy())


def test_values_beyond_the_range_are_clipped_and_nan_is_grey() -> None:
    x = torch.tensor([-9.0, 9.0, float("nan"), float("inf")]).view(1, 1, 2, 2)
    assert to_uint8(x).flatten().tolist() == [0, 255, 128, 255]


def test_a_grid_shows_samples_in_reading_order() -> None:
    image = grid([shades(9)])
    assert image.mode == "L"
    assert centres(image, 3, 3).flatten().tolist() == to_uint8(shades(9, 1)).flatten().tolist()


@pytest.mark.parametrize(("num", "size"), [(64, 8), (16, 32), (64, 64), (100, 28), (1, 8)])
def test_an_automatic_grid_is_readable(num: int, size: int) -> None:
    assert 512 <= grid([shades(num, size)]).width <= 900


def test_enlargement_is_by_whole_pixels() -> None:
    x = torch.rand(1, 3, 4, 4) * 2 - 1
    enlarged = np.asarray(grid([x], scale=5))
    assert np.array_equal(enlarged[::5, ::5], to_uint8(x)[0])
    assert np.array_equal(enlarged, np.repeat(np.repeat(enlarged[::5, ::5], 5, 0), 5, 1))


def test_several_tensors_stand_side_by_side_and_samples_apart() -> None:
    left, right = torch.full((2, 1, 4, 4), -1.0), torch.full((2, 3, 4, 4), 1.0)
    row = np.asarray(grid([left, right], scale=1, columns_per_row=2))[0, :, 0].tolist()
    assert row[:8] == row[-8:] == [0] * 4 + [255] * 4
    assert len(row) > 16
    assert set(row[8:-8]).isdisjoint({0, 255})


def test_labelled_samples_that_cycle_get_a_column_a_class() -> None:
    label = torch.arange(64) % 10
    samples = {"x": (label / 4.5 - 1).view(-1, 1, 1, 1).expand(-1, 1, 8, 8), "label": label}
    cells = centres(picture_of(Vanilla(), {}, samples, None), 10, 7)
    assert (cells[:6] == cells[0]).all()
    assert len(set(cells[0].tolist())) == 10


def test_samples_with_other_labels_form_a_near_square() -> None:
    samples = {"x": shades(64, 8), "label": torch.arange(64).flip(0) % 10}
    image = picture_of(Vanilla(), {}, samples, None)
    assert image.width == image.height


def test_a_family_that_maps_pictures_shows_them_beside_their_maps() -> None:
    names = ("a", "x", "b", "back")
    batch = {k: torch.full((3, 1, 8, 8), v) for k, v in zip(names, (-1.0, -0.5, 0.5, 1.0), strict=True)}
    image = picture_of(CycleGAN(), batch, batch, None)
    assert centres(image, 4, 1).flatten().tolist() == [0, 64, 191, 255]


def colours(image: Image.Image) -> set[tuple[int, int, int]]:
    return {tuple(p) for p in np.asarray(image).reshape(-1, 3).tolist()}


def test_a_scatter_plot_shows_both_kinds_in_limits_of_the_real() -> None:
    real = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    far = torch.tensor([[0.0, 0.0], [50.0, 0.0], [float("nan"), 0.0]])
    image = scatter(real, far)
    middle = image.getpixel((image.width // 2, image.height // 2))
    assert middle == FAKE
    assert {FAKE, REAL} <= colours(image)
    assert np.array_equal(np.asarray(image)[70:500], np.asarray(scatter(real, far[:1]))[70:500])


def test_points_up_are_drawn_up_and_points_right_right() -> None:
    real = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.9, 1.0]])
    body = np.asarray(scatter(real, real[1:]))[50:-50, 50:-50]
    rows, columns = np.nonzero((body == FAKE).all(2))
    assert rows.max() < len(body) / 2 < columns.min()


def test_a_plot_without_real_or_with_nothing_finite_is_still_a_picture() -> None:
    nan = torch.full((4, 2), float("nan"))
    assert FAKE in colours(picture_of(Vanilla(), {}, {"x": torch.randn(50, 2)}, None))
    assert picture_of(Vanilla(), {}, {"x": nan}, None).size == scatter(torch.zeros(1, 2), nan).size


@pytest.mark.parametrize("dimensions", [1, 2, 7])
def test_vectors_of_any_dimension_become_a_plot(dimensions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, dimensions, generator=generator)
    image = picture_of(Vanilla(), {}, {"x": torch.randn(100, dimensions, generator=generator)}, real)
    assert {FAKE, REAL} <= colours(image)


def test_many_dimensions_are_seen_along_their_principal_axes() -> None:
    real = torch.randn(100, 6, generator=torch.Generator().manual_seed(0)) * 0.01
    real[:, 3] += torch.linspace(-9, 9, 100)
    away = real[-1:].clone()
    away[:, 3] = 0
    along = picture_of(Vanilla(), {}, {"x": away}, real)
    assert along.getpixel((along.width // 2, along.height // 2)) == FAKE


def test_a_png_carries_run_step_seed_and_its_digital_source_type() -> None:
    png = encode(grid([shades(4)]), META)
    found = read_metadata(png)
    assert {k: found[k] for k in META} == META
    assert found["DigitalSourceType"] == SYNTHETIC
    with Image.open(io.BytesIO(png)) as image:
        assert np.array_equal(np.asarray(image), np.asarray(grid([shades(4)])))


def test_the_source_type_is_in_a_well_formed_xmp_packet() -> None:
    packet = read_metadata(encode(grid([shades(4)]), {**META, "run": "<a> & ü"}))[XMP_KEY]
    rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    iptc = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
    tree = ElementTree.fromstring(packet.encode())
    assert tree.findtext(f"{rdf}RDF/{rdf}Description/{iptc}DigitalSourceType") == SYNTHETIC
    assert "<a> & ü" in (tree.findtext(".//{http://purl.org/dc/elements/1.1/}source") or "")


def test_metadata_beyond_latin_survives() -> None:
    assert read_metadata(encode(grid([shades(4)]), {**META, "data": "数字"}))["data"] == "数字"


def test_what_is_no_png_is_an_error() -> None:
    jpeg = io.BytesIO()
    grid([shades(4)]).save(jpeg, "JPEG")
    for content in (b"", b"no picture", jpeg.getvalue()):
        with pytest.raises(DataError, match="PNG"):
            read_metadata(content)
