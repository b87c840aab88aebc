"""Pictures of contestants: the same latents and labels, one beside the other."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from gans.data.base import Dataset
from gans.generator import Model
from gans.pictures import INK, PAPER, picture_of
from gans.sampling import balanced, draw

SHOWN, REAL_POINTS = 64, 1000
BORDER, CAPTION, LETTERS = 12, 28, 16  # px


def picture(model: Model, held_out: Dataset, seed: int) -> Image.Image:
    """64 samples as a grid, with labels in turn; vectors as a scatter plot over 1,000 held-out ones."""
    inputs = balanced(model.family, model.spec, SHOWN, held_out, model.device)
    if model.spec.fields[model.family.imitates].kind == "image":
        return picture_of(
            model.family, inputs, draw(model.family, model.networks, SHOWN, seed, inputs, model.device), None
        )
    inputs = balanced(model.family, model.spec, REAL_POINTS, held_out, model.device)
    points = draw(model.family, model.networks, REAL_POINTS, seed, inputs, model.device)
    real = held_out.fetch(held_out.order(0, 0)[:REAL_POINTS])[model.family.imitates]
    return picture_of(model.family, inputs, points, real)


def side_by_side(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Pictures from left to right, each below its name."""
    wide = sum(p.width for p in pictures.values()) + BORDER * (len(pictures) + 1)
    high = max(p.height for p in pictures.values()) + CAPTION + BORDER
    sheet = Image.new("RGB", (wide, high), PAPER)
    pen, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS), BORDER
    for name, one in pictures.items():
        pen.text((left, CAPTION / 2), name, INK, font, "lm")
        sheet.paste(one.convert("RGB"), (left, CAPTION))
        left += one.width + BORDER
    return sheet
