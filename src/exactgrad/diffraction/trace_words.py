"""What the gradient of an image's parameter says, in words computed from the case.

The derivative image is compared with simple changes of the image (brighter, broader, moved, turned), and the data with
the same changes: what growing the parameter does, and whether the data want it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exactgrad.core.trace import confusing
from exactgrad.diffraction import model
from exactgrad.diffraction.parameters.entry import Named

if TYPE_CHECKING:
    from exactgrad.diffraction.trace import Walk

ALIKE_FROM = 0.3  # a smaller cosine is not worth a word
CHANGES = {  # what growing does, what shrinking does; what the model is where the data are ahead, and behind; of what
    "brighter": ("makes the image brighter", "makes the image dimmer", "too dim", "too bright", 100.0, "%"),
    "broader": ("makes peaks broader", "makes peaks sharper", "too sharp", "too broad", 2.0, "pixel^2 of variance"),
    "longer arcs": (
        "draws peaks out along arcs about the direct beam",
        "draws peaks in along arcs about the direct beam",
        "too sharp along arcs",
        "too broad along arcs",
        2.0,
        "pixel^2 of variance",
    ),
    "longer streaks": (
        "draws peaks out along the radius from the direct beam",
        "draws peaks in along the radius from the direct beam",
        "too sharp along the radius",
        "too broad along the radius",
        2.0,
        "pixel^2 of variance",
    ),
    "outwards": (
        "moves peaks away from the direct beam",
        "moves peaks towards the direct beam",
        "too near the direct beam",
        "too far from the direct beam",
        100.0,
        "% of the way",
    ),
    "turned": (
        "turns the pattern about the direct beam, fast to slow",
        "turns the pattern about the direct beam, slow to fast",
        "turned too little from fast to slow",
        "turned too far from fast to slow",
        180 / np.pi,
        "deg",
    ),
    "along fast": ("moves peaks up along fast", "moves peaks down along fast", "too low", "too high", 1.0, "pixel"),
    "along slow": ("moves peaks up along slow", "moves peaks down along slow", "too low", "too high", 1.0, "pixel"),
}
SUBJECT = {"brighter": "image is", "turned": "pattern is"}  # else its peaks are


def words_of(
    walk: Walk, named: Named, d: dict[str, np.ndarray], found: tuple[tuple[str, float], ...]
) -> tuple[str, ...]:
    """Return sentences on the sign, the size, the place and the likes of a gradient.

    Parameters
    ----------
    walk : trace.Walk
    named : Named
    d : dict of ndarray
        How every array moves per unit of the parameter.
    found : tuple of (str, float)
        Correlations.
    """
    derivative, moved = float(d["loss"]), d["photons"]
    if not moved.any():
        return ("It moves nothing that these pixels see.",)
    weight = walk.pixels.weight
    curvature = float((weight * moved**2).sum())
    return (
        _which_way(named, walk, derivative, curvature),
        *_why(walk, derivative, moved),
        *_where(walk, derivative, moved),
        *filter(None, [confusing(found)]),
    )


def _which_way(named: Named, walk: Walk, derivative: float, curvature: float) -> str:
    unit = f" {named.unit}" if named.unit else ""
    per = named.unit or "unit"
    step, known = -derivative / curvature, curvature**-0.5
    way = "decrease it" if derivative > 0 else "increase it"
    return (
        f"The loss ({float(walk.at['loss']):.6g}) changes by {derivative:+.4g} per {per}: {way}. With all else fixed a "
        f"Gauss-Newton step would be {step:+.3g}{unit}, and the data would tell it to {known:.2g}{unit}."
    )


def _why(walk: Walk, derivative: float, moved: np.ndarray) -> tuple[str, ...]:
    """Return what growing it looks like, and whether the data look like that."""
    weight = np.sqrt(walk.pixels.weight)
    simple = {name: weight * image for name, image in changes(walk).items()}
    likes = {name: _cosine(weight * moved, image) for name, image in simple.items()}
    name = max(likes, key=lambda key: abs(likes[key]))
    if abs(likes[name]) < ALIKE_FROM:
        return ("Growing it is like no simple change of the image: not brightness, width, shift or turn.",)
    grows, shrinks, behind, ahead, scale, unit = CHANGES[name]
    lack = scale * _lacking(walk, simple, name)
    wanted = (likes[name] * lack > 0) == (derivative < 0)
    way = "increase" if derivative < 0 else "decrease"
    hence = f"{way} it" if wanted else f"yet the other things that it does say {way}"
    does = grows if likes[name] > 0 else shrinks
    off = f"{SUBJECT.get(name, 'peaks are')} {behind if lack > 0 else ahead}"
    return (
        f"On the detector growing it {does} (cosine {abs(likes[name]):.2f} with such a change). The model's {off}, by "
        f"{abs(lack):.2g} {unit}: {hence}.",
    )


def _lacking(walk: Walk, simple: dict[str, np.ndarray], name: str) -> float:
    """Return how much of a change the data have over the model, fitted together with brightness and width."""
    missing = np.where(walk.observed.counted, walk.data - walk.at["photons"], 0.0) * np.sqrt(walk.pixels.weight)
    width = "broader" if name not in ("longer arcs", "longer streaks") else name
    columns = [simple[key].ravel() for key in dict.fromkeys((name, "brighter", width))]
    return float(np.linalg.lstsq(np.stack(columns, axis=1), missing.ravel(), rcond=None)[0][0])


def changes(walk: Walk) -> dict[str, np.ndarray]:
    """Return how the image would change if it grew brighter, broader, outwards and so on, shape (slow, fast) each."""
    image, detector = walk.at["photons"], walk.scene.detector
    kept = walk.observed.counted
    by_slow, by_fast = (_slope(image, axis) for axis in (0, 1))
    centre = detector.direct_beam_m() / detector.pixel_m
    slow, fast = np.indices(image.shape) + 0.5
    f, s = fast - centre[0], slow - centre[1]
    reach = np.hypot(f, s)
    found = {
        "brighter": image,
        "broader": _slope(by_slow, 0) + _slope(by_fast, 1),
        "longer arcs": _curvature(by_slow, by_fast, f / reach, -s / reach),
        "longer streaks": _curvature(by_slow, by_fast, s / reach, f / reach),
        "outwards": -(f * by_fast + s * by_slow),
        "turned": -(f * by_slow - s * by_fast),
        "along fast": -by_fast,
        "along slow": -by_slow,
    }
    return {name: np.where(kept, change, 0.0) for name, change in found.items()}


def _curvature(by_slow: np.ndarray, by_fast: np.ndarray, s: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return the second derivative along the direction (s, f) at each pixel."""
    mixed = _slope(by_slow, 1) + _slope(by_fast, 0)
    return s * s * _slope(by_slow, 0) + f * f * _slope(by_fast, 1) + s * f * mixed


def _slope(image: np.ndarray, axis: int) -> np.ndarray:
    return np.gradient(image, axis=axis) if image.shape[axis] > 1 else np.zeros_like(image)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / norm if norm > 0 else 0.0


def _where(walk: Walk, derivative: float, moved: np.ndarray) -> tuple[str, ...]:
    """Return from where on the detector the gradient comes, and whether its parts cancel."""
    parts = np.abs(walk.pixels.derivative * moved)
    if not parts.any():
        return ()
    order = np.sort(parts, axis=None)[::-1]
    half = 1 + int(np.searchsorted(np.cumsum(order), parts.sum() / 2))
    slow, fast = np.unravel_index(int(parts.argmax()), parts.shape)
    pixels, rays = walk.observed.size, walk.maps[0].rays  # type: ignore[attr-defined]
    number = int(np.flatnonzero((rays.slow == slow) & (rays.fast == fast))[0])
    hkl = model.nearest(walk.at["h"][:, :, number]).reshape(-1, 3)
    share = (walk.at["F"] * walk.at["L"])[:, :, number].ravel() ** 2
    reflection = ", ".join(f"{int(i)}" for i in hkl[share.argmax()])
    said = [
        f"Half of it comes from {half} of {pixels} pixels, most from pixel (slow {slow}, fast {fast}) at reflection "
        f"({reflection})."
    ]
    if abs(derivative) < 0.05 * parts.sum():
        said.append(f"Its parts cancel to {abs(derivative) / parts.sum():.1%}: small is the sum, not its influence.")
    return tuple(said)
