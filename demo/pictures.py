"""The comparison: one spectrogram above the other, each under its name."""

from PIL import Image, ImageDraw, ImageFont

BACK, INK, FAINT = "#1e1f24", "#e8e8ea", "#a9acb5"
MARGIN, BAND, HEAD = 14, 34, 62  # pixels


def comparison(rows: list[tuple[str, Image.Image]], title: str, explanation: str) -> Image.Image:
    """Stack pictures of any size, each below a line of text, under a title and a line that explains it."""
    large, small = ImageFont.load_default(size=20), ImageFont.load_default(size=14)
    pictures = [picture.convert("RGB") for _, picture in rows]
    width = max(picture.width for picture in pictures)
    height = HEAD + sum(BAND + picture.height for picture in pictures) + MARGIN
    sheet = Image.new("RGB", (width, height), BACK)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), fitting(title, large, width - 2 * MARGIN), INK, large)
    draw.text((MARGIN, MARGIN + 24), explanation, FAINT, small)
    top = HEAD
    for (label, _), picture in zip(rows, pictures, strict=True):
        draw.rectangle((0, top, width, top + BAND - 1), fill="#2b2d35")
        draw.text((MARGIN, top + BAND // 2), label, INK, ImageFont.load_default(size=17), anchor="lm")
        sheet.paste(picture, (0, top + BAND))
        top += BAND + picture.height
    return sheet


def fitting(text: str, font, width: int) -> str:
    """The text, or its start with an ellipsis, no wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
