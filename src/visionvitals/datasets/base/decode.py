"""From an encoded picture to the pixels a network sees. Pillow is the reference; `fast` is a choice and is recorded.

What is decided here, and follows what timm and torchvision do unless said:
- every mode becomes RGB by Pillow's `convert("RGB")`: grey is repeated, CMYK converted, alpha dropped (not composited);
- 16-bit grey keeps its upper byte, as Pillow does for 16-bit RGB (`convert` alone would clip nearly all of it to white);
- 32-bit integer and float pictures have no defined white and are refused;
- the EXIF orientation is not applied unless the set says `?exif=apply` (of a TIFF file Pillow itself applies it);
- the first frame of an animation is the picture;
- a picture of more than `MAX_PIXELS` is refused.

`traits` finds the pictures to which one of these matters, for the notes of a set.
"""

import importlib.util
import io
from typing import NamedTuple

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

AVIF = ("AVIF",) if importlib.util.find_spec("PIL._avif") else ()  # from Pillow 11.3 on, where it was built so
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM", "JPEG2000", *AVIF)
"""Of pixels only: Pillow would run a PostScript interpreter on a file of that kind."""
MAX_PIXELS = 89_478_485
"""The largest picture that is read: where Pillow begins to warn of decompression bombs (256 MiB of RGB)."""
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Traits(NamedTuple):
    """What is special about a picture, as far as it decides how it is read.

    Attributes:
        orientation: the EXIF orientation, 1 (upright) to 8; 0 where the file says nothing.
        square: as high as wide; known where there is an orientation.
        transparent: alpha is not opaque everywhere.
        frames: there are several.
        used: of a picture with more than 8 bits, its largest value as a share of the range; 0 for one with 8 bits.
    """

    orientation: int = 0
    square: bool = False
    transparent: bool = False
    frames: bool = False
    used: float = 0.0


PLAIN = Traits()


def traits(data: bytes) -> Traits:
    """The traits of an encoded picture; `PLAIN` for what cannot be read. Most files are told by a look for a few marks in them."""
    if data[:3] == b"\xff\xd8\xff":
        special = any(mark in data[:_HEADERS] for mark in (b"Exif\0", b"tiff:Orientation"))
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        marks = (b"eXIf", b"tiff:Orientation", b"acTL", b"tRNS")
        special = data[24:25] == b"\x10" or data[25:26] in (b"\4", b"\6") or any(mark in data for mark in marks)
    else:
        special = True
    if not special:
        return PLAIN
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            return PLAIN
        if image.format == "TIFF" and orientation(image) > 1:
            image.load()  # newer Pillow turns it and takes the tag away
        return traits_of(image, used=_range_used(image, data))
    except Exception:  # damaged: it is named when it is read
        return PLAIN


def traits_of(image: Image.Image, *, used: float | None = None) -> Traits:
    """The traits of an opened picture; `used` where its file says more than its pixels."""
    turn, transparent = orientation(image), False
    if image.mode[0] not in "IF" and ("A" in image.getbands() or "transparency" in image.info):
        transparent = bool((np.asarray(image.convert("RGBA").getchannel("A")) < 255).any())
    return Traits(
        orientation=turn,
        square=turn > 0 and image.width == image.height,
        transparent=transparent,
        frames=bool(getattr(image, "is_animated", False))
        and image.format != "MPO",  # MPO: a preview beside a photograph
        used=_range_used(image, b"") if used is None else used,
    )


_HEADERS = 2**18  # bytes: two segments of 64 KiB, and what lies between them


def _range_used(image: Image.Image, data: bytes) -> float:
    deep = image.mode.startswith("I;16") or (image.format == "PNG" and data[24:25] == b"\x10")
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
        deep = deep or max(bits if isinstance(bits, tuple) else (bits,)) > 8
    if not deep or image.mode == "F":
        return 0.0
    pixels = np.asarray(image)
    return float(pixels.max()) / (255 if pixels.dtype == np.uint8 else 65535)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of a file, 1 to 8; 0 where it says nothing or nothing sensible."""
    try:
        found = image.getexif().get(_ORIENTATION, 0)
    except Exception:  # damaged EXIF is read as none, as viewers do
        return 0
    return found if isinstance(found, int) and 1 <= found <= 8 else 0


def turned(picture: Image.Image, orientation: int, *, back: bool = False) -> Image.Image:
    """A stored picture turned upright by its EXIF orientation, or with `back` an upright one as it is stored."""
    if back:
        orientation = {6: 8, 8: 6}.get(orientation, orientation)
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def turned_array(pixels: np.ndarray, orientation: int, *, back: bool = False) -> np.ndarray:
    """As `turned`, of an array of bool or uint8, (h, w) or (h, w, 3)."""
    if orientation not in _TURNS:
        return pixels
    picture = Image.fromarray(np.ascontiguousarray(pixels).view(np.uint8))
    return np.array(turned(picture, orientation, back=back)).view(pixels.dtype)


def open_image(data: bytes, id: str, *, most: int = MAX_PIXELS) -> Image.Image:
    """Decode a whole file, so that a damaged one fails here.

    Args:
        data: the encoded bytes.
        id: names the picture in the error.
        most: the number of pixels above which it is refused.

    Raises:
        UnreadableImage: no bytes, no picture, a truncated picture, or too many pixels.
    """
    if not data:
        raise UnreadableImage(f"{id}: the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > most:
            raise ValueError(f"Image size ({image.width * image.height} pixels) exceeds limit of {most} pixels")
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


def _resized(width: int, height: int, preprocess: Preprocess) -> tuple[int, int]:
    """(width, height) after the resize.

    Raises:
        UnreadableImage: so narrow a picture that its resized form would exceed `MAX_PIXELS`.
    """
    found = preprocess.resized(width, height)
    if found[0] * found[1] > MAX_PIXELS:
        raise UnreadableImage(f"{width} x {height} pixels are too narrow to resize")
    return found


def decode(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """The network's input as Pillow makes it, uint8 (h, w, 3).

    Equal bit for bit to torchvision's Resize and CenterCrop of a Pillow image.

    Args:
        image: a loaded picture of any mode.
        preprocess: size, resize and interpolation are used; mean and std are not.

    Raises:
        UnreadableImage: a mode or a shape that has no decided meaning.
    """
    width, height = _resized(*image.size, preprocess)
    resized = to_rgb(image).resize((width, height), RESAMPLING[preprocess.interpolation])
    left, top = preprocess.corner(width, height)
    return np.asarray(resized.crop((left, top, left + preprocess.size[1], top + preprocess.size[0])))


def decode_mask(mask: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """A mask, bool or uint8 (height, width) of the picture, cut as `decode` cuts the picture; nearest, so that no value is invented.

    Returns:
        uint8 (h, w).
    """
    picture = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    resized = picture.resize(_resized(*picture.size, preprocess), Image.Resampling.NEAREST)
    left, top = preprocess.corner(*resized.size)
    return np.asarray(resized.crop((left, top, left + preprocess.size[1], top + preprocess.size[0])))


def require_fast() -> None:
    """Raise `VitalsError` unless the extra `[fast]` is installed."""
    try:
        import simplejpeg  # noqa: F401
    except ImportError:
        raise VitalsError(
            "The decoder `fast` needs simplejpeg: pip install 'visionvitals[fast]', or use --decoder pillow."
        ) from None


def decode_fast(data: bytes, preprocess: Preprocess, id: str, *, upright: bool = False) -> np.ndarray:
    """As `decode`, about twice as fast and within 2/255 of it: simplejpeg, then torchvision's resize of tensors.

    What is no plain JPEG (another format, CMYK, damaged, enormous) and the Lanczos filter take the reference path. `nearest` is
    resized by Pillow: where a pixel lies between two, others choose the other one, and neighbours may differ by 255.

    Args:
        data: the encoded bytes.
        preprocess: as in `decode`.
        id: names the picture in an error.
        upright: the EXIF orientation is applied.
    """
    array = _jpeg_pixels(data)
    if array is None or preprocess.interpolation == "lanczos":
        image = open_image(data, id)
        return decode(turned(to_rgb(image), orientation(image)) if upright else image, preprocess)
    if upright:
        array = turned_array(array, traits(data).orientation)
    if preprocess.interpolation == "nearest":
        return decode(Image.fromarray(array), preprocess)
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    width, height = _resized(array.shape[1], array.shape[0], preprocess)
    pixels = resize(
        torch.from_numpy(array).permute(2, 0, 1),
        [height, width],
        interpolation=InterpolationMode(preprocess.interpolation),
    ).permute(1, 2, 0)
    left, top = preprocess.corner(width, height)
    return np.ascontiguousarray(pixels[top : top + preprocess.size[0], left : left + preprocess.size[1]].numpy())


def _jpeg_pixels(data: bytes) -> np.ndarray | None:
    """uint8 (h, w, 3), or None where Pillow must decide."""
    import simplejpeg

    if not simplejpeg.is_jpeg(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ("CMYK", "YCCK") or width * height > MAX_PIXELS:
            return None
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB"))
    except ValueError:
        return None
