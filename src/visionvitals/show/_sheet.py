"""A sheet of pictures with captions, drawn by Pillow: what `vitals show` writes. Nothing here knows of networks."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, SOFT, LINE = "#ffffff", "#1d2127", "#5b636e", "#e3e6ea"
SAME, OTHER = "#0b7a5c", "#c8501e"
"""Of a prediction that is still the first one, and of another: told apart by a sign too, not by hue alone."""
TILE, GAP, MARGIN, BAR = 256, 20, 44, 6
_TITLE, _HEAD, _TEXT, _SMALL = 34, 24, 19, 17


class Tile(NamedTuple):
    """One picture.

    Attributes:
        picture: of any size; shown as a square of `TILE` px on its longer side.
        title: above it, e.g. `25 % removed`.
        says: below it, e.g. a predicted class; empty where there is nothing to say.
        share: in [0, 1], drawn as a bar below it; None for no bar.
        same: whether it says what the unchanged picture does; None where that is no question.
    """

    picture: Image.Image
    title: str
    says: str = ""
    share: float | None = None
    same: bool | None = None


class Section(NamedTuple):
    """A head, a line of text that tells how to read it, and tiles from left to right, as many a line as fit."""

    head: str
    text: str
    tiles: Sequence[Tile]


def sheet(title: str, sections: Sequence[Section], *, columns: int = 6) -> Image.Image:
    """All sections below each other, as wide as the widest needs, up to `columns` tiles a line."""
    wide = min(columns, max(len(s.tiles) for s in sections))
    width = max(2 * MARGIN + wide * (TILE + GAP) - GAP, 900)
    blocks = [_block(section, width, min(columns, wide)) for section in sections]
    top = MARGIN + _TITLE + 24
    whole = Image.new("RGB", (width, top + sum(b.height for b in blocks) + MARGIN - 24), PAPER)
    ImageDraw.Draw(whole).text((MARGIN, MARGIN - 8), _fit(title, _TITLE, width - 2 * MARGIN), INK, font=_font(_TITLE))
    for block in blocks:
        whole.paste(block, (0, top))
        top += block.height
    return whole


def _block(section: Section, width: int, columns: int) -> Image.Image:
    has_says = any(tile.says for tile in section.tiles)
    title = _TEXT + 10
    below = (BAR + 12 + _TEXT + 8) if has_says else 0
    line = title + TILE + below + GAP
    lines = -(-len(section.tiles) // columns)
    head = _HEAD + 14 + (_SMALL + 14 if section.text else 0) + 14
    block = Image.new("RGB", (width, head + lines * line + 20), PAPER)
    draw = ImageDraw.Draw(block)
    draw.line([(MARGIN, 0), (width - MARGIN, 0)], fill=LINE, width=2)
    draw.text((MARGIN, 14), _fit(section.head, _HEAD, width - 2 * MARGIN), INK, font=_font(_HEAD))
    if section.text:
        text = _fit(section.text, _SMALL, width - 2 * MARGIN)
        draw.text((MARGIN, 14 + _HEAD + 10), text, SOFT, font=_font(_SMALL))
    for k, tile in enumerate(section.tiles):
        x, y = MARGIN + (k % columns) * (TILE + GAP), head + (k // columns) * line
        draw.text((x, y), _fit(tile.title, _TEXT, TILE), INK, font=_font(_TEXT))
        picture = _square(tile.picture)
        block.paste(picture, (x + (TILE - picture.width) // 2, y + title + (TILE - picture.height) // 2))
        if tile.says:
            _caption(draw, tile, x, y + title + TILE + 8)
    return block


def _caption(draw: ImageDraw.ImageDraw, tile: Tile, x: int, y: int) -> None:
    colour = SOFT if tile.same is None else SAME if tile.same else OTHER
    if tile.share is not None:
        draw.rounded_rectangle((x, y, x + TILE, y + BAR), BAR // 2, fill=LINE)
        filled = round(TILE * max(0.0, min(1.0, tile.share)))
        if filled >= BAR:
            draw.rounded_rectangle((x, y, x + filled, y + BAR), BAR // 2, fill=colour)
    y += BAR + 8
    number = "" if tile.share is None else f"{tile.share:.0%}"
    room = TILE
    if number:
        room -= round(_font(_TEXT).getlength(number)) + 10
        draw.text((x + TILE, y), number, SOFT, font=_font(_TEXT), anchor="ra")
    if tile.same is not None:
        _sign(draw, x, y + 3, colour, same=tile.same)
        x, room = x + 22, room - 22
    draw.text((x, y), _fit(tile.says, _TEXT, room), colour if tile.same is not None else INK, font=_font(_TEXT))


def _sign(draw: ImageDraw.ImageDraw, x: int, y: int, colour: str, *, same: bool) -> None:
    """A tick or a cross of 14 px: the font has neither."""
    if same:
        draw.line([(x, y + 8), (x + 5, y + 13), (x + 14, y + 2)], fill=colour, width=3, joint="curve")
    else:
        draw.line([(x + 1, y + 2), (x + 12, y + 13)], fill=colour, width=3)
        draw.line([(x + 12, y + 2), (x + 1, y + 13)], fill=colour, width=3)


def _square(picture: Image.Image) -> Image.Image:
    """The picture with its longer side at `TILE` px: small ones enlarged in whole steps where they can be."""
    long = max(picture.size)
    how = Image.Resampling.NEAREST if TILE % long == 0 and long < TILE else Image.Resampling.LANCZOS
    if long < TILE / 2 and how is Image.Resampling.LANCZOS:  # keep the pixels of small inputs visible
        steps = TILE // long
        picture = picture.resize((picture.width * steps, picture.height * steps), Image.Resampling.NEAREST)
        long = max(picture.size)
    scale = TILE / long
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if picture.size == size else picture.resize(size, how)


def _fit(text: str, size: int, width: int) -> str:
    """The text, cut with an ellipsis where it is too long."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text.rstrip()}..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
