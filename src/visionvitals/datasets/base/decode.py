"""From an encoded picture to the pixels a network sees. Pillow is the reference; `fast` is a choice and is recorded.

What is decided here, and follows what timm and torchvision do unless said:
- every mode becomes RGB by Pillow's `convert("RGB")`: grey is repeated, CMYK converted, alpha dropped (not composited);
- 16-bit grey keeps its upper byte, as Pillow does for 16-bit RGB (`convert` alone would clip nearly all of it to white);
- 32-bit integer and float pictures have no defined white and are refused;
- the EXIF orientation is not applied;
- the first frame of an animation is the picture.
"""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from visionvitals.core import Interpolation, Preprocess
from visionvitals.errors import UnreadableImage, VitalsError

RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM", "JPEG2000")
"""Of pixels only: Pillow would run a PostScript interpreter on a file of that kind."""


def open_image(data: bytes, id: str) -> Image.Image:
    """Decode a whole file, so that a damaged one fails here.

    Args:
        data: the encoded bytes.
        id: names the picture in the error.

    Raises:
        UnreadableImage: no bytes, no picture, a truncated picture, or more pixels than Pillow's limit against decompression bombs.
    """
    if not data:
        raise UnreadableImage(f"{id}: the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
    except UnidentifiedImageError:
        raise UnreadableImage(f"{id}: not a picture in a format that is read here ({', '.join(FORMATS)})") from None
    except (
        Exception
    ) as error:  # damaged files raise OSError, SyntaxError, ValueError, struct.error, ...: none may end a run
        raise UnreadableImage(f"{id}: {error}") from error
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB, by the rules at the top of this file.

    Raises:
        UnreadableImage: 32-bit integer or float pixels.
    """
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PNG"):  # older Pillow opens 16-bit PNG as "I"
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        raise UnreadableImage(
            f"pixels of mode {mode} (32 bit) have no defined white; save the picture with 8 or 16 bits"
        )
    if mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colours; straight to RGB makes Pillow warn
    return image if image.mode == "RGB" else image.convert("RGB")


def resized_size(width: int, height: int, preprocess: Preprocess) -> tuple[int, int]:
    """(width, height) after the resize: torchvision's rule, the longer side is truncated to a whole number of pixels.

    Raises:
        UnreadableImage: so narrow a picture that its resized form would exceed Pillow's pixel limit.
    """
    if preprocess.resize is None:
        return preprocess.size[1], preprocess.size[0]
    short, long = min(width, height), max(width, height)
    new_long = int(preprocess.resize * long / short)
    if Image.MAX_IMAGE_PIXELS is not None and preprocess.resize * new_long > Image.MAX_IMAGE_PIXELS:
        raise UnreadableImage(f"{width} x {height} pixels are too narrow to resize")
    return (preprocess.resize, new_long) if width <= height else (new_long, preprocess.resize)


def crop_corner(width: int, height: int, preprocess: Preprocess) -> tuple[int, int]:
    """(left, top) of the centre crop in a resized picture: torchvision's rule, halves go to the even pixel."""
    return round((width - preprocess.size[1]) / 2), round((height - preprocess.size[0]) / 2)


def decode(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """The network's input as Pillow makes it, uint8 (h, w, 3).

    Equal bit for bit to torchvision's Resize and CenterCrop of a Pillow image.

    Args:
        image: a loaded picture of any mode.
        preprocess: size, resize and interpolation are used; mean and std are not.

    Raises:
        UnreadableImage: a mode or a shape that has no decided meaning.
    """
    width, height = resized_size(*image.size, preprocess)
    resized = to_rgb(image).resize((width, height), RESAMPLING[preprocess.interpolation])
    left, top = crop_corner(width, height, preprocess)
    return np.asarray(resized.crop((left, top, left + preprocess.size[1], top + preprocess.size[0])))


def decode_mask(mask: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """A mask, bool or uint8 (height, width) of the picture, cut as `decode` cuts the picture; nearest, so that no value is invented.

    Returns:
        uint8 (h, w).
    """
    picture = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    resized = picture.resize(resized_size(*picture.size, preprocess), Image.Resampling.NEAREST)
    left, top = crop_corner(*resized.size, preprocess)
    return np.asarray(resized.crop((left, top, left + preprocess.size[1], top + preprocess.size[0])))


def require_fast() -> None:
    """Raise `VitalsError` unless the extra `[fast]` is installed."""
    try:
        import simplejpeg  # noqa: F401
    except ImportError:
        raise VitalsError(
            "The decoder `fast` needs simplejpeg: pip install 'visionvitals[fast]', or use --decoder pillow."
        ) from None


def decode_fast(data: bytes, preprocess: Preprocess, id: str) -> np.ndarray:
    """As `decode`, about twice as fast and within 2/255 of it: simplejpeg, then torchvision's resize of tensors.

    What is no plain JPEG (another format, CMYK, damaged, enormous) and the Lanczos filter take the reference path.
    """
    array = _jpeg_pixels(data)
    if array is None or preprocess.interpolation == "lanczos":
        return decode(open_image(data, id), preprocess)
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    width, height = resized_size(array.shape[1], array.shape[0], preprocess)
    modes = {
        "nearest": InterpolationMode.NEAREST_EXACT,
        "bilinear": InterpolationMode.BILINEAR,
        "bicubic": InterpolationMode.BICUBIC,
    }
    pixels = resize(
        torch.from_numpy(array).permute(2, 0, 1), [height, width], interpolation=modes[preprocess.interpolation]
    ).permute(1, 2, 0)
    left, top = crop_corner(width, height, preprocess)
    return np.ascontiguousarray(pixels[top : top + preprocess.size[0], left : left + preprocess.size[1]].numpy())


def _jpeg_pixels(data: bytes) -> np.ndarray | None:
    """uint8 (h, w, 3), or None where Pillow must decide."""
    import simplejpeg

    if not simplejpeg.is_jpeg(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ("CMYK", "YCCK") or width * height > (Image.MAX_IMAGE_PIXELS or width * height):
            return None
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB"))
    except ValueError:
        return None
