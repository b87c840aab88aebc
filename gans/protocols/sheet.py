"""Pictures of several methods side by side, each under its name."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from gans.pictures import INK, PAPER

TITLE, BETWEEN, HIGH = 28, 12, 640  # px: of a title, between pictures, and the most a picture is high


def contact_sheet(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """`pictures` from left to right, reduced to equal height, each below its name. At least one."""
    height = min(HIGH, *(p.height for p in pictures.values()), HIGH)
    cells = {
        name: p.convert("RGB").resize((max(1, round(p.width * height / p.height)), height))
        for name, p in pictures.items()
    }
    width = sum(cell.width for cell in cells.values()) + BETWEEN * (len(cells) - 1)
    sheet = Image.new("RGB", (width, height + TITLE), PAPER)
    pen, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(16), 0
    for name, cell in cells.items():
        pen.text((left + 4, TITLE / 2), name, INK, font, "lm")
        sheet.paste(cell, (left, TITLE))
        left += cell.width + BETWEEN
    return sheet
