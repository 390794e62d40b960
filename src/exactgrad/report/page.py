"""The run report: one HTML file that needs no other file and no network; it knows pages and panels, not physics.

Every text that comes in is escaped. The page carries a content security policy that allows its own style, its own
script (by hash) and images that stand in the file, so that nothing is fetched even if an input tried to.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape, unescape
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from exactgrad import __version__
from exactgrad.errors import InputError
from exactgrad.report.numbers import cell_text, checked_rows, is_number, number_columns, unit_of, value_text
from exactgrad.report.style import data_uri

THIN_SPACE = "\u2009"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TAGS = re.compile("<[^>]*>")
LONG = 8  # characters of a card's number from which it is set smaller
SMALL = 1e-3  # below it a number is written with a power of ten
WIDE = 1.8  # width over height from which a figure takes the whole width of the page

Number = tuple[str, Any, str, str]
"""Label, value, unit, note; unit and note may be empty."""


class Page:
    """A report: a header and panels, in the order in which they were added.

    Parameters
    ----------
    title, subtitle : str
        The header; the title is also the document's.

    Examples
    --------
    >>> page = Page("Broadband excitation", "500 us, 20 kHz")
    >>> page.numbers([("mean quality", 0.99986, "", "dense grid"), ("peak", 10.0, "kHz", "")])
    >>> page.table("Starts", ["seed", "quality"], [[0, 0.9991], [1, 0.9998]], "The best start is kept.")
    >>> page.html().startswith("<!DOCTYPE html>")
    True
    """

    def __init__(self, title: str, subtitle: str = ""):
        self._title = title
        self._subtitle = subtitle
        self._panels: list[str] = []
        self._in_figures = False

    def numbers(self, numbers: Iterable[Number]) -> None:
        """Add a row of cards, one a number: (label, value, unit, note)."""
        self._add(f'<section class="numbers">\n{_cards(numbers)}</section>\n')

    def figure(self, title: str, png: bytes, caption: str = "") -> None:
        """Add a picture; figures that follow each other share a grid. Raises ValueError if `png` is no PNG."""
        width, height = png_size(png)
        name = escape(title)
        legend = f"<strong>{name}</strong>" + (f" {escape(caption)}" if caption else "")
        kind = ' class="wide"' if width > WIDE * height else ""
        drawn = (
            f'<figure{kind}>\n<button type="button" class="zoom" aria-label="Enlarge: {name}">'
            f'<img src="{data_uri(png)}" width="{width}" height="{height}" alt="{name}"></button>\n'
            f"<figcaption>{legend}</figcaption>\n</figure>\n"
        )
        if self._in_figures:
            self._panels[-1] = self._panels[-1].removesuffix("</section>\n") + drawn + "</section>\n"
        else:
            self._add(f'<section class="figures">\n{drawn}</section>\n')
            self._in_figures = True

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        caption: str = "",
        folded: bool = False,
    ) -> None:
        """Add a table that sorts by a click on a heading; columns of numbers stand to the right.

        Parameters
        ----------
        title, caption : str
            Above the table; the caption may be empty.
        columns : sequence of str
            Headings, with their unit ("peak (kHz)").
        rows : iterable of sequences
            One cell a column: text, number, bool or None.
        folded : bool
            True shows the title alone until it is clicked.

        Raises
        ------
        ValueError
            If a row has more or fewer cells than there are columns.
        """
        cells = checked_rows(columns, rows)
        kinds = number_columns(len(columns), cells)
        head = "".join(
            f'<th scope="col"{_right(kind)}><button type="button">{escape(heading)}</button></th>'
            for heading, kind in zip(columns, kinds, strict=True)
        )
        body = "".join(
            "<tr>" + "".join(_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True)) + "</tr>\n"
            for row in cells
        )
        note = f"<p>{escape(caption)}</p>\n" if caption else ""
        drawn = (
            f'{note}<div class="scroll" tabindex="0" role="region" '
            f'aria-label="{escape(title)}"><table>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}</tbody>\n</table></div>\n"
        )
        if folded:
            self._add(
                f"<section>\n<details>\n<summary><h2>{escape(title)}</h2></summary>\n{drawn}</details>\n</section>\n"
            )
        else:
            self._add(f"<section>\n<h2>{escape(title)}</h2>\n{drawn}</section>\n")

    def summary(self, summary: dict[str, Any]) -> None:
        """Add all that summary.json says in plain values, each with its unit, folded until it is opened."""
        rows = [(key, value_text(value), unit_of(key)) for key, value in summary.items() if _is_plain(value)]
        self.table("All of summary.json", ("key", "value", "unit"), rows, folded=True)

    def text(self, title: str, paragraphs: Iterable[str]) -> None:
        """Add prose under a heading, one <p> a paragraph."""
        body = "".join(f"<p>{escape(paragraph)}</p>\n" for paragraph in paragraphs)
        self._add(f"<section>\n<h2>{escape(title)}</h2>\n{body}</section>\n")

    def code(self, title: str, text: str) -> None:
        """Add text as it is, with a button that copies it: a job file, the command that repeats the run."""
        self._add(
            f'<section>\n<div class="head"><h2>{escape(title)}</h2><button type="button" class="copy" hidden>Copy'
            f'</button></div>\n<pre tabindex="0"><code>{escape(text)}</code></pre>\n</section>\n'
        )

    def warnings(self, warnings: Iterable[str]) -> None:
        """Add what the reader must know before trusting the numbers; nothing is drawn if there is nothing."""
        items = "".join(f"<li>{escape(warning)}</li>\n" for warning in warnings)
        if items:
            self._add(f'<section class="warnings" role="note" aria-label="Warnings">\n<ul>\n{items}</ul>\n</section>\n')

    def html(self) -> str:
        """Return the whole document."""
        return _document(self._title, self._subtitle, "".join(self._panels))

    def _add(self, panel: str) -> None:
        self._panels.append(panel)
        self._in_figures = False


@dataclass(frozen=True)
class Entry:
    """One report in an index page.

    Attributes
    ----------
    title, text : str
        Its name and a sentence.
    link : str
        Path of its report relative to the index, with forward slashes.
    numbers : sequence of (label, value, unit, note)
        A few results.
    png : bytes or None
        A picture to know it by.
    """

    title: str
    link: str
    text: str = ""
    numbers: Sequence[Number] = field(default=())
    png: bytes | None = None


def index_page(entries: Iterable[Entry], title: str = "exactgrad", subtitle: str = "") -> str:
    """Return a self-contained HTML page that leads to several reports.

    Raises
    ------
    InputError
        If a link is not a path relative to the index.

    Examples
    --------
    >>> "pulses/report.html" in index_page([Entry("Pulses", "pulses/report.html", "A pulse for all offsets.")])
    True
    """
    return _document(title, subtitle, '<div class="entries">\n' + "".join(map(_entry, entries)) + "</div>\n")


def _entry(entry: Entry) -> str:
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|[/\\]", entry.link) or not entry.link:
        raise InputError(f"index entry {entry.title!r}: link {entry.link!r}: a path relative to the index is needed")
    picture = ""
    if entry.png is not None:
        width, height = png_size(entry.png)
        picture = f'<img src="{data_uri(entry.png)}" width="{width}" height="{height}" alt="">\n'
    text = f"<p>{escape(entry.text)}</p>\n" if entry.text else ""
    cards = f'<div class="numbers">\n{_cards(entry.numbers)}</div>\n' if entry.numbers else ""
    return (
        f'<article class="entry">\n{picture}<h2><a href="{escape(quote(entry.link))}">{escape(entry.title)}</a></h2>\n'
        f"{text}{cards}</article>\n"
    )


def png_size(png: bytes) -> tuple[int, int]:
    """Read width and height in pixels from a PNG's header.

    Raises
    ------
    ValueError
        If the bytes are not a PNG.
    """
    if len(png) < 24 or not png.startswith(PNG_SIGNATURE) or png[12:16] != b"IHDR":
        raise ValueError("not a PNG picture")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def _is_plain(value: Any) -> bool:
    return not (isinstance(value, list) and any(isinstance(item, dict | list) for item in value))


def _cards(numbers: Iterable[Number]) -> str:
    cards = []
    for label, value, unit, note in numbers:
        mark = f'{THIN_SPACE}<span class="unit">{escape(unit)}</span>' if unit else ""
        small = f'<p class="note">{escape(note)}</p>' if note else ""
        number = _number_html(value)
        kind = "value long" if len(TAGS.sub("", unescape(number))) > LONG else "value"
        cards.append(
            f'<div class="card"><p class="label">{escape(label)}</p>'
            f'<p class="{kind}"><span>{number}</span>{mark}</p>{small}</div>\n'
        )
    return "".join(cards)


def _cell(cell: Any, in_number_column: bool) -> str:
    # the shown text is rounded; what is sorted is not
    key = f' data-key="{escape(repr(float(cell)))}"' if in_number_column and cell is not None else ""
    return f"<td{_right(in_number_column)}{key}>{_number_html(cell)}</td>"


def _right(is_right: bool) -> str:
    return ' class="num"' if is_right else ""


def _number_html(cell: Any) -> str:
    """Escape a cell; a number gets a true minus and a written power of ten."""
    text = cell_text(cell)
    if not is_number(cell):
        return escape(text)
    if isinstance(cell, float) and 0 < abs(cell) < SMALL:
        mantissa, _, exponent = f"{cell:.5e}".partition("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
    mantissa, e, exponent = text.lower().partition("e")
    number = escape(mantissa).replace("-", "\u2212")
    if not e:
        return number
    power = str(int(exponent)).replace("-", "\u2212")
    return f"{number}{THIN_SPACE}×{THIN_SPACE}10<sup>{power}</sup>"


@cache
def _resource(name: str) -> str:
    return files("exactgrad.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _document(title: str, subtitle: str, body: str) -> str:
    style, script = _resource("page.css"), _resource("page.js")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    under = f'<p class="subtitle">{escape(subtitle)}</p>\n' if subtitle else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>{style}</style>\n</head>\n'
        f"<body>\n<header>\n<h1>{escape(title)}</h1>\n{under}</header>\n<main>\n{body}</main>\n"
        f"<footer><p>exactgrad {escape(__version__)}</p></footer>\n<script>{script}</script>\n</body>\n</html>\n"
    )
