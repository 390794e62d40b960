"""A trace as Markdown or as a self-contained page, and where a parameter acts as pictures."""

from __future__ import annotations

import numpy as np

from exactgrad.core.trace import COLUMNS, Picture, Trace, rows, verdict
from exactgrad.report.page import Page
from exactgrad.report.style import figure, png_bytes, styled


def markdown(trace: Trace, pictures: dict[str, str]) -> str:
    """Return a trace as a Markdown page; `pictures` are the paths of its drawings by title.

    Examples
    --------
    >>> from exactgrad.core.trace import Stage
    >>> one = np.ones(())
    >>> p, loss = Stage("distance", "", "mm", 3 * one, one, 6 * one), Stage("loss", "p^2", "", 9 * one, 6 * one, one)
    >>> page = markdown(Trace("example", "distance", "mm", "how far", 3.0, "two stages", (p, loss), 9.0), {})
    >>> print(page.splitlines()[2])
    how far, here 3 mm (two stages).
    """
    value = f"{trace.value:.6g} {trace.unit}".rstrip()
    lines = [f"# {trace.parameter} ({trace.system})", "", f"{trace.meaning}, here {value} ({trace.example}).", ""]
    lines += [f"{sentence}  " for sentence in trace.words] + ["", "## From the parameter to the loss, and back", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * 2 + "---|" * 2 + "---:|" * 5]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows(trace)]
    lines += ["", f"{verdict(trace)}.", ""]
    if trace.correlations:
        lines += ["## What it is like", "", "| parameter | correlation |", "|---|---:|"]
        lines += [f"| {name} | {value:+.4f} |" for name, value in trace.correlations] + [""]
    for title, path in pictures.items():
        lines += [f"![{title}]({path})", ""]
    return "\n".join(lines)


def html(trace: Trace, command: str) -> str:
    """Return a trace as a self-contained page; `command` is what repeats it."""
    per = f"per {trace.unit}" if trace.unit else ""
    page = Page(
        f"{trace.parameter} ({trace.system})", f"{trace.meaning[:1].upper()}{trace.meaning[1:]}; {trace.example}."
    )
    page.numbers(
        [
            ("Value", trace.value, trace.unit, ""),
            ("Loss", float(f"{trace.loss:.5g}"), "", f"the kernel's to {trace.off_kernel:.0e}"),
            ("Derivative", float(f"{trace.derivative:.4g}"), per, "of the loss, forward"),
            ("Backward", float(f"{trace.backward:.4g}"), per, "the same from the loss back"),
            ("Agreement", float(f"{trace.disagreement:.1e}"), "", "of the two, at every stage"),
        ]
    )
    if not trace.agrees:
        page.warnings([verdict(trace)])
    page.text("In plain words", trace.words)
    for picture in trace.pictures:
        colours = " Red is more, blue is less." if picture.values.ndim == 2 else ""
        caption = f"Unit: {picture.unit or 'none'}.{colours}"
        page.figure(picture.title[:1].upper() + picture.title[1:], draw(picture), caption)
    forward, back = (0, 1, 2, 3, 4, 5), (0, 6, 7, 8)
    page.table(
        "From the parameter to the loss",
        [COLUMNS[i] for i in forward],
        [[row[i] for i in forward] for row in rows(trace)],
        "Least and most are of the stage's values, in its unit.",
    )
    page.table(
        "And back",
        [COLUMNS[i] for i in back],
        [[row[i] for i in back] for row in rows(trace)],
        "The largest tangent (what the stage moves by, per unit of the parameter) and cotangent (what the loss grows "
        "by, per unit of the stage). Their product is the derivative, at every stage the same.",
    )
    if trace.correlations:
        note = "How alike they move what is measured (Gauss-Newton); 1 cannot be told apart."
        page.table("What it is like", ("parameter", "correlation"), trace.correlations, note)
    page.code("The command that repeats it", command)
    return page.html()


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or " "


@styled
def draw(picture: Picture) -> bytes:
    """Return a picture as PNG: a line, or an image in a diverging scale around zero."""
    fig = figure(7.0, 3.2 if picture.values.ndim == 1 else 4.0)
    axes = fig.add_subplot()
    first, last, bottom, top = picture.extent
    if picture.values.ndim == 1:
        axes.plot(np.linspace(first, last, picture.values.size), picture.values)
        axes.axhline(0.0, color="0.6", linewidth=0.8)
        axes.set_ylabel(picture.unit)
    else:
        most = float(np.abs(picture.values).max()) or 1.0
        extent = (first, last, bottom, top)
        drawn = axes.imshow(
            picture.values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", origin="lower", extent=extent
        )
        fig.colorbar(drawn, ax=axes, label=picture.unit)
        axes.set_ylabel(picture.y)
    axes.set_xlabel(picture.x)
    axes.set_title(picture.title)
    return png_bytes(fig)
