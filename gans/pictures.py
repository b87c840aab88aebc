"""Pictures of samples: grids, scatter plots, and PNG files that say what they are.

Every PNG the project writes goes through `encode`, so that synthetic pictures can be told from photographs.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngInfo
from torch import Tensor

from gans.data.base import Batch
from gans.errors import DataError
from gans.family import Family

SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_KEY = "XML:com.adobe.xmp"

WIDE, HIGH = 900, 1800  # px a grid may be enlarged to
GAP = 2  # px between samples
BETWEEN = 150  # grey between samples, unlike the black or white grounds of most pictures
PAPER = (255, 255, 255)
INK = (60, 60, 60)
REAL = (170, 170, 170)
FAKE = (213, 94, 0)  # vermilion of Okabe and Ito's colour-blind safe palette
MARGIN, SIDE, OVERSAMPLE = 40, 560, 2
MAX_POINTS = 5000

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <xmp:CreatorTool>ganctl</xmp:CreatorTool>
   <dc:source>{source}</dc:source>
   <Iptc4xmpExt:DigitalSourceType>{kind}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def to_uint8(x: Tensor) -> np.ndarray:
    """Float NCHW in [-1, 1] → uint8 NHWC, clipped; NaN becomes mid-grey. The inverse of `data.base.to_float`."""
    scaled = x.detach().float().nan_to_num(0.0).clamp(-1, 1).add(1.0).mul(127.5).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous().numpy()


def picture_of(family: Family, inputs: Batch, samples: Batch, real: Tensor | None) -> Image.Image:
    """The picture of a family's samples: a grid of images, or a scatter plot of vectors over `real` ones.

    Samples whose labels cycle through 0..K-1 are laid out with K columns. Vectors of more than two dimensions are
    shown on the first two principal axes of `real` (of the samples where there is none).
    """
    x = samples["x"].detach().float().cpu()
    if x.dim() == 4:
        columns = [c.detach().float().cpu() for c in family.pictures(inputs, samples)]
        return grid(columns, columns_per_row=_cycle(samples.get("label")))
    flat = x.flatten(1)
    shown = flat[:0] if real is None else real.detach().float().cpu().flatten(1)
    return scatter(*_planar(shown, flat))


def grid(
    columns: Sequence[Tensor], scale: int | Literal["auto"] = "auto", columns_per_row: int | None = None
) -> Image.Image:
    """Samples in reading order. Each tensor is NCHW with C of 1 or 3, float in [-1, 1], all of equal N, H and W.

    Several tensors are drawn side by side per sample. `scale` is the integer enlargement by nearest neighbour;
    "auto" takes the largest that keeps the grid within 900 px wide. Without `columns_per_row` it is near square.
    """
    channels = max(c.shape[1] for c in columns)
    assert channels in (1, 3), f"pictures have 1 or 3 channels, not {channels}"
    alike = [c.expand(-1, channels, -1, -1) if c.shape[1] == 1 else c for c in columns]
    cells = to_uint8(torch.cat(alike, dim=3))
    num, height, width, _ = cells.shape
    across = columns_per_row or max(1, round(math.sqrt(num * height / width)))
    across = min(across, num)
    down = math.ceil(num / across)
    gap = GAP if len(columns) == 1 else 3 * GAP
    fitting = min((WIDE - gap * across) // (across * width), (HIGH - gap * down) // (down * height))
    times = max(1, fitting) if scale == "auto" else scale
    cells = cells.repeat(times, axis=1).repeat(times, axis=2)
    high, wide = height * times + gap, width * times + gap
    sheet = np.full((down * high - gap, across * wide - gap, channels), BETWEEN, dtype=np.uint8)
    for i, cell in enumerate(cells):
        top, left = i // across * high, i % across * wide
        sheet[top : top + high - gap, left : left + wide - gap] = cell
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def scatter(real: Tensor, fake: Tensor) -> Image.Image:
    """Generated points (M, 2) in vermilion over real ones (N, 2) in grey, on equal axes.

    The limits come from the real points (from the generated ones where there are no real). Generated points beyond
    them, or not finite, are counted in the legend. At most 5,000 points of either kind are drawn.
    """
    seen, made = real[:MAX_POINTS].numpy(), fake[:MAX_POINTS].numpy()
    finite = made[np.isfinite(made).all(1)]
    centre, reach = _limits(seen if len(seen) else finite)
    inside = finite[(np.abs(finite - centre) <= reach).all(1)]

    unit = OVERSAMPLE
    size = (SIDE + 2 * MARGIN) * unit
    image = Image.new("RGB", (size, size), PAPER)
    pen = ImageDraw.Draw(image)
    for points, colour, radius in ((seen, REAL, 2.0), (inside, FAKE, 1.5)):
        pixels = ((points - centre) / reach * (1, -1) + 1) / 2 * SIDE + MARGIN
        for x, y in (pixels * unit).tolist():
            r = radius * unit
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    image = image.resize((size // unit, size // unit), Image.Resampling.BOX)
    _annotate(ImageDraw.Draw(image), centre, reach, len(seen), len(made), len(made) - len(inside))
    return image


def encode(image: Image.Image, meta: Mapping[str, str]) -> bytes:
    """The image as PNG with `meta` (run, step and seed at least) and its IPTC digital source type.

    Both are text chunks; the source type is also in an XMP packet, where photo tools look for it.
    """
    missing = {"run", "step", "seed"} - meta.keys()
    assert not missing, f"PNG metadata lacks {sorted(missing)}"
    info = PngInfo()
    for key, value in {**meta, "Software": "ganctl", "DigitalSourceType": SYNTHETIC}.items():
        info.add_text(key, value)
    source = escape("; ".join(f"{k} {v}" for k, v in meta.items()))
    info.add_itxt(XMP_KEY, _XMP.format(source=source, kind=SYNTHETIC))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)  # `optimize` takes seven times as long and saves 2 %
    return buffer.getvalue()


def read_metadata(png: bytes) -> dict[str, str]:
    """The text chunks of a PNG, its XMP packet under "XML:com.adobe.xmp". Raises DataError if it is no PNG."""
    try:
        with Image.open(io.BytesIO(png)) as image:
            if not isinstance(image, PngImageFile):
                raise DataError(f"not a PNG file but {image.format}: only PNG carries ganctl's metadata")
            return {str(k): str(v) for k, v in image.text.items()}
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"not a readable PNG file: {error}") from error


def _cycle(labels: Tensor | None) -> int | None:
    """K where the labels are 0, 1, ..., K-1, 0, 1, ... with a K that suits a row; else None."""
    if labels is None or not 2 <= (k := int(labels.max()) + 1) <= 20:
        return None
    return k if torch.equal(labels.cpu(), torch.arange(len(labels)) % k) else None


def _planar(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (N, 2): padded from one dimension, projected on two principal axes from more."""
    if fake.shape[1] == 1:
        return tuple(torch.nn.functional.pad(p, (0, 1)) for p in (real, fake))  # type: ignore[return-value]
    if fake.shape[1] == 2:
        return real, fake
    basis = real[:MAX_POINTS] if len(real) else fake[fake.isfinite().all(1)]
    if len(basis) < 2:
        return real[:, :2], fake[:, :2]
    mean = basis.mean(0)
    axes = torch.linalg.svd(basis - mean, full_matrices=False).Vh[:2].T
    return (real - mean) @ axes, (fake - mean) @ axes


def _limits(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and half-width of a square that holds the points with a tenth to spare."""
    if not len(points):
        return np.zeros(2), 1.0
    low, high = points.min(0), points.max(0)
    return (low + high) / 2, float(max((high - low).max() / 2 * 1.1, 1e-6))


def _annotate(
    pen: ImageDraw.ImageDraw, centre: np.ndarray, reach: float, real: int, fake: int, outside: int
) -> None:
    """Frame, limits and legend."""
    font = ImageFont.load_default(14)
    far = MARGIN + SIDE
    pen.rectangle((MARGIN, MARGIN, far, far), outline=INK)
    (x0, y0), (x1, y1) = centre - reach, centre + reach
    pen.text(
        (MARGIN, far + 8), f"horizontal {x0:.3g} to {x1:.3g}, vertical {y0:.3g} to {y1:.3g}", INK, font, "la"
    )
    x = float(MARGIN)
    beyond = f", {outside:,} beyond the frame" if outside else ""
    for colour, text in ((REAL, f"{real:,} real"), (FAKE, f"{fake:,} generated{beyond}")):
        pen.ellipse((x, MARGIN - 24, x + 10, MARGIN - 14), fill=colour)
        pen.text((x + 16, MARGIN - 19), text, INK, font, "lm")
        x += 40 + pen.textlength(text, font)
