"""Encoded bytes (PNG, JPEG, WebP) to uint8 arrays. Knows nothing of files, splits or batches."""

from __future__ import annotations

import io
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_EXIF_ORIENTATION = 0x0112
_ORIENTATION_SOURCES = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
_GREY = {"1", "L", "LA", "La", "I", "F"}


class Undecodable(Exception):
    """These bytes are no image that Pillow can read; the message is the reason."""


class Header(NamedTuple):
    """What an image's header tells, after its EXIF orientation."""

    channels: int
    height: int
    width: int


def probe(file: BinaryIO) -> Header:
    """Read channels and size from the header alone. Raises Undecodable."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            # Asking a PNG without these for its EXIF would decode all of it, in search of a late chunk.
            told = image.info.keys() & _ORIENTATION_SOURCES
            if told and image.getexif().get(_EXIF_ORIENTATION, 1) >= 5:  # 5..8 lie on their side
                width, height = height, width
            return Header(_channels(image.mode), height, width)
    except Exception as error:  # Pillow raises nearly anything on broken bytes
        raise Undecodable(_reason(error)) from error


def decode(data: bytes, channels: int | None, size: int | None, across: int = 1) -> np.ndarray:
    """Decode to uint8 (C, H, W), upright, with alpha composited over white. Raises Undecodable.

    `channels` 1 or 3 converts, None keeps the image's own. `size` scales the shorter side to `size` and crops
    the centre; None keeps the image's own size. Where an image holds `across` pictures of equal width side by side,
    that is done to each, and they come one upon another: (across C, H, W).
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            wanted = channels or _channels(opened.mode)
            if size is not None:
                opened.draft(
                    None, (2 * across * size, 2 * size)
                )  # JPEG: decode at a fraction of a far larger size
            image = _flattened(ImageOps.exif_transpose(opened), "L" if wanted == 1 else "RGB")
    except Exception as error:  # Pillow raises nearly anything on broken bytes
        raise Undecodable(_reason(error)) from error
    width, rest = divmod(image.width, across)
    if rest:
        raise Undecodable(f"{image.width} px are not the width of {across} equal pictures")
    if across == 1:
        return _pixels(image, size)
    boxes = [(i * width, 0, (i + 1) * width, image.height) for i in range(across)]
    return np.concatenate([_pixels(image.crop(box), size) for box in boxes])


def _pixels(image: Image.Image, size: int | None) -> np.ndarray:
    """(C, H, W), in square where a size is given."""
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _channels(mode: str) -> int:
    return 1 if mode in _GREY or mode.startswith("I;") else 3


def _flattened(image: Image.Image, mode: str) -> Image.Image:
    """Without alpha and with 8 bits a channel."""
    if image.mode == "I" or image.mode.startswith("I;"):  # 16-bit grey, which convert("L") would clip
        image = Image.fromarray((np.asarray(image).clip(0, 65_535) // 257).astype(np.uint8))
    if image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        colour = image.convert("RGBA")
        white = Image.new("RGBA", colour.size, "white")
        image = Image.alpha_composite(white, colour)
    return image.convert(mode)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return (str(error) or type(error).__name__).splitlines()[0]
