"""Pieces of the report's page: bars, chips, pictures, and the open tag of a table."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from PIL import Image

from ..prelabel.page import QUALITY
from ..prelabel.tiles import Small
from .comparing import KINDS, REDONE, TOUCHED, UNTOUCHED, Name
from .panels import Palette
from .saving import WORDS

SIGNS: Final = {UNTOUCHED: "good", TOUCHED: "fair", REDONE: "bad"}  # classes of the style


def whole_percents(shares: Sequence[float]) -> list[int]:
    """Rounded so that shares of a whole add up to 100."""
    exact = [100 * one for one in shares]
    found = [int(one) for one in exact]
    missing = round(sum(exact)) - sum(found)
    for place in sorted(range(len(exact)), key=lambda one: found[one] - exact[one])[:missing]:
        found[place] += 1
    return found


def stack(kinds: Mapping[str, int], *, small: bool) -> str:
    total = sum(kinds.values())
    if not total:
        return "–"
    shares = whole_percents([kinds[kind] / total for kind in KINDS])
    told = ", ".join(f"{kinds[kind]} {WORDS[kind]}" for kind in KINDS)
    inside = "".join(
        f'<i class="{SIGNS[kind]}" style="width:{100 * kinds[kind] / total:.2f}%">'
        f"{'' if small or share < 8 else f'{share} %'}</i>"
        for kind, share in zip(KINDS, shares, strict=True)
        if kinds[kind]
    )
    css = "stack small" if small else "stack"
    return f'<div class="{css}" role="img" aria-label="{told}" title="{told}">{inside}</div>'


def table_of(words: str) -> str:
    label = escape(words)
    return f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>'


def chip(palette: Palette, name: Name) -> str:
    colour = rgb(palette.colour(name))
    return f'<span class="chip"><i style="background:{colour}"></i>{escape(name.label)}</span>'


def rgb(colour: tuple[int, int, int]) -> str:
    return f"rgb({colour[0]} {colour[1]} {colour[2]})"


def two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def image_of(picture: Small, words: str) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, subsampling=0)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(words)}">'
