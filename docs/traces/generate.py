"""Write the pages of docs/traces from the code: `python docs/traces/generate.py`, or `--check` to compare only.

A page is what `exactgrad trace SYSTEM PARAMETER --markdown FILE` writes of the embedded example. Another machine rounds
its last digits otherwise: the check wants every word, and every number to a thousandth.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np

from exactgrad.core.trace import Trace
from exactgrad.report import trace_page

FOLDER = Path(__file__).resolve().parent
PAGES = {  # system: its parameters
    "diffraction": ("mosaic_spread_rad", "cell_a", "misset_rot_x", "distance_mm", "lambda_A", "fluence"),
    "pulses": ("amplitude", "phase", "ux", "uy", "uz", "offset", "b1"),
    "tomography": ("A", "B", "theta_op", "phi_op", "j_offset", "k_offset", "transmission"),
}
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
CLOSE, NOTHING = 1e-3, 1e-9  # relative; below the latter a number is rounding
NOTE = "<!-- Written by docs/traces/generate.py: do not edit by hand. -->"
INDEX = f"""\
# Parameter traces

{NOTE}

How a parameter reaches the result, stage by stage, and how the gradient of the loss comes back: the numbers of an
embedded example, by the code's own equation sheet. At every stage cotangent . tangent is the same number, the
derivative itself; the stages' loss is that of the fused kernel.

`tangent` is how far the stage moves (the largest entry) when the parameter grows by one unit; `cotangent` is how much
the loss grows with the stage. What passes beside a stage, on another way to the loss, is counted in with it.

```text
exactgrad trace diffraction lambda_A --markdown page.md
exactgrad trace diffraction distance_mm --job mine.toml
exactgrad trace pulses list
```
"""


def pages(draw: bool = True) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the pages, and their pictures (empty, if not to be drawn), by file name."""
    texts, pictures, index = {}, {}, [INDEX]
    for system, parameters in PAGES.items():
        index += [f"## {system.capitalize()}", "", "| parameter | unit | what it is | derivative of the loss |"]
        index.append("|---|---|---|---:|")
        for parameter in parameters:
            trace = importlib.import_module(f"exactgrad.{system}.trace").trace(parameter)
            stem = f"{system}_{parameter}"
            drawn = {picture.title: f"{stem}_{i}.png" for i, picture in enumerate(trace.pictures, 1)}
            for picture in trace.pictures:
                pictures[drawn[picture.title]] = trace_page.draw(picture) if draw else b""
            texts[f"{stem}.md"] = _page(trace, drawn)
            cells = (f"[{parameter}]({stem}.md)", trace.unit, trace.meaning, f"{trace.derivative:+.4g}")
            index.append("| " + " | ".join(cells) + " |")
        index.append("")
    return {"index.md": "\n".join(index), **texts}, pictures


def _page(trace: Trace, drawn: dict[str, str]) -> str:
    title, rest = trace_page.markdown(trace, drawn).split("\n", 1)
    return f"{title}\n\n{NOTE}\n{rest}"


def differs(written: str, made: str) -> bool:
    """Return whether two pages say different things."""
    if NUMBER.sub("#", written) != NUMBER.sub("#", made):
        return True
    a, b = (np.array([float(number) for number in NUMBER.findall(text)]) for text in (written, made))
    return bool((np.abs(a - b) > np.maximum(CLOSE * np.maximum(np.abs(a), np.abs(b)), NOTHING)).any())


def main(arguments: list[str]) -> int:
    """Write the pages that say something else; with --check, return 1 if there is one, or a picture is missing."""
    check = arguments == ["--check"]
    texts, pictures = pages(draw=not check)
    stale = [name for name, text in texts.items() if _is_stale(FOLDER / name, text)]
    missing = [name for name in pictures if not (FOLDER / name).is_file()]
    if check:
        sys.stderr.write("".join(f"docs/traces/{name} is stale\n" for name in stale + missing))
        return int(bool(stale + missing))
    for name in stale:
        (FOLDER / name).write_text(texts[name], encoding="utf-8")
    for name, image in pictures.items():
        if name in missing or f"{name.rpartition('_')[0]}.md" in stale:
            (FOLDER / name).write_bytes(image)
    return 0


def _is_stale(path: Path, text: str) -> bool:
    return not path.is_file() or differs(path.read_text(encoding="utf-8"), text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
