"""The trace of a quantity: from a field of the voxels, an offset or the transmission to the cost, and back.

A name alone moves all voxels or all projections together; with an index it moves one: "A[3,4,5]", "j_offset[2]",
"transmission[2,0,1]". The embedded example is a simulated scan whose model is a little wrong everywhere, so that the
gradient has something to say.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import numpy as np

from exactgrad.core.trace import Picture, Stage, Trace, confusing, correlations
from exactgrad.errors import InputError
from exactgrad.tomography import model, simulate
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.sphere import angle_gradients, angles_from_axis
from exactgrad.tomography.tables import read_job

PARAMETERS = {  # name: unit, meaning
    "A": ("sqrt(intensity/edge)", "amplitude: A^2 is the scattering along the axis"),
    "B": ("", "anisotropy: > 0 along the axis, < 0 a ring around it"),
    "theta_op": ("rad", "angle between axis and z"),
    "phi_op": ("rad", "azimuth of the axis, from x to y"),
    "j_offset": ("pixel", "offset of the rays along j"),
    "k_offset": ("pixel", "offset of the rays along k"),
    "transmission": ("", "part of the beam that leaves the sample"),
}
FIELDS, OFFSETS = ("A", "B", "theta_op", "phi_op"), ("j_offset", "k_offset")
ALIASES = {
    "amplitude": "A", "anisotropy": "B", "theta": "theta_op", "phi": "phi_op", "offset": "j_offset",
    "offset_j": "j_offset", "offset_k": "k_offset", "diode": "transmission", "t": "transmission",
}  # fmt: skip
INDEXED = re.compile(r"([A-Za-z_]+)(?:\[(\d{1,7}(?:, ?\d{1,7}){0,2})\])?")
EXAMPLE = {
    "phantom": {"name": "rings", "shape": [10, 10, 10], "seed": 1},
    "scan": {"scheme": "liebi", "projections": 14, "segments": 6},
    "measure": {"scale": 50.0, "absorption": 0.04, "offset_px": 0.4, "misalignment_px": 0.25},
}
WRONG = {"A": 0.98, "B": 0.95, "theta_op": 0.08, "phi_op": -0.05}  # of the truth: factors, and turns in rad
MOST_NUMBERS = 10**8  # of the densities of all projections, which a trace holds at once


def names() -> tuple[str, ...]:
    """Return the names of all parameters that can be traced, without aliases."""
    return tuple(PARAMETERS)


def trace(parameter: str, job: Path | None = None) -> Trace:
    """Return the trace of a parameter beside the truth of a simulated scan (a job of `simulate`, or the example).

    Raises
    ------
    InputError
        If there is no such parameter, voxel or projection, the job is wrong or too large.

    Examples
    --------
    >>> found = trace("theta_op")
    >>> found.agrees, [stage.name for stage in found.stages][1:]
    (True, ['axis', 'cosines', 'density', 'projection', 'intensity', 'cost'])
    """
    table, _ = read_job(EXAMPLE if job is None else job, simulate.Job)
    made = simulate.make(table)
    truth = made.truth
    problem = TomographyProblem(made.data, mask=truth["A"] > 0, cost="sqrt", e0=0.375)
    if made.data.shape[0] * made.data.shape[3] * problem.voxels > MOST_NUMBERS:
        raise InputError(
            f"{job}: projections x segments x voxels is more than {MOST_NUMBERS:.0e}: trace a smaller scan"
        )
    at = {
        "A": WRONG["A"] * np.sqrt(truth["scale"]) * truth["A"],
        "B": WRONG["B"] * truth["B"],
        "theta_op": truth["theta_op"] + WRONG["theta_op"],
        "phi_op": truth["phi_op"] + WRONG["phi_op"],
    }
    example = "the embedded scan, its model a little wrong" if job is None else f"{job}, its model a little wrong"
    return _traced(_Walk(problem, at), parameter, example)


def _traced(walk: _Walk, parameter: str, example: str) -> Trace:
    name, index = _named(parameter)
    where = walk.where(name, index)
    unit, meaning = PARAMETERS[name]
    label = name if index is None else f"{name}[{','.join(map(str, index))}]"
    stages = walk.stages(label, name, where)
    everyone = "voxels" if name in FIELDS else "projections"
    found = walk.alike(name)
    return Trace(
        system="tomography",
        parameter=label,
        unit=unit,
        meaning=f"{meaning}; of all {everyone} together" if index is None else meaning,
        value=float(walk.values[name][where].mean()),
        example=example,
        stages=stages,
        loss_of_kernel=walk.problem.value_and_gradient(walk.x)[0],
        correlations=found,
        pictures=walk.pictures(name, where),
        words=walk.words(name, where, found),
    )


def _named(parameter: str) -> tuple[str, tuple[int, ...] | None]:
    matched = INDEXED.fullmatch(parameter)
    known = {name.lower(): name for name in PARAMETERS} | ALIASES
    if not matched or matched[1].lower() not in known:
        raise InputError(f"{parameter[:40]}: no such parameter; there are: {', '.join(PARAMETERS)}")
    return known[matched[1].lower()], None if matched[2] is None else tuple(map(int, matched[2].split(",")))


class _Walk:
    """The equation sheet at one point, its cotangents once, and the tangents of any parameter.

    Arrays are (n, G, V, S) for cosines, (n, V, S) for densities, (n, J K, S) for images.
    """

    def __init__(self, problem: TomographyProblem, volumes: dict[str, np.ndarray]):
        self.problem, self.x = problem, problem.vector(**volumes)
        rows = problem.rows(self.x)
        self.A, self.B, self.u = rows[:, 0], rows[:, 1], rows[:, 2:]
        self.theta, self.phi = angles_from_axis(self.u)
        self.q, self.share = problem.geometry.probed()
        self.c = np.array([[model.cosines(self.u, q) for q in points] for points in self.q])
        self.f = np.array([self._summed([model.density(self.A, self.B, c) for c in points]) for points in self.c])
        self.matrices = [model.joseph_matrix(problem.geometry, n)[:, problem.mask.ravel()] for n in range(len(self.q))]
        measured = [problem.data.projection(n) for n in range(len(self.q))]
        self.measured, self.weight, through = (np.stack(part) for part in zip(*measured, strict=True))
        self.through = through.reshape(len(through), -1)
        self.image = np.array([model.project(p, f) for p, f in zip(self.matrices, self.f, strict=True)])
        self.seen = np.array([model.transmit(*pair) for pair in zip(self.image, self.through, strict=True)])
        flat = self.seen.shape
        data = self.measured.reshape(flat), self.weight.reshape(flat)
        self.loss, self.by_seen = problem.cost.value_and_slope(self.seen, *data)
        self.normal = problem.cost.gauss_newton(self.seen, *data)
        self.by_image = np.array([model.transmit(*pair) for pair in zip(self.by_seen, self.through, strict=True)])
        self.by_f = np.array([model.project_cotangent(*p) for p in zip(self.matrices, self.by_image, strict=True)])

    def _summed(self, points: list[np.ndarray]) -> np.ndarray:
        return np.einsum("g,g...->...", self.share, np.array(points))

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """The values of each parameter: of the voxels in the mask, or of the projections."""
        g = self.problem.geometry
        fields = {"A": self.A, "B": self.B, "theta_op": self.theta, "phi_op": self.phi}
        return {**fields, "j_offset": g.j_offset, "k_offset": g.k_offset, "transmission": self.through}

    def where(self, name: str, index: tuple[int, ...] | None) -> np.ndarray:
        """Return which entries of `values` move, as 0 or 1; raises `InputError` if there is none of this index."""
        if index is None:
            return np.ones(self.values[name].shape, bool)
        if name in FIELDS:
            number = np.full(self.problem.mask.shape, -1)
            number[self.problem.mask] = np.arange(self.problem.voxels)
            words = f"x, y, z of a voxel in the mask, below {number.shape}"
        else:
            number = np.arange(self.values[name].size).reshape(
                self.problem.data.shape[: 3 if name == "transmission" else 1]
            )
            words = f"{'n, or n, j, k' if number.ndim == 3 else 'a projection'}, below {number.shape}"
        wanted = 1 if name == "transmission" and len(index) == 1 else number.ndim
        fits = len(index) == wanted and bool((np.array(index) < number.shape[:wanted]).all())
        chosen = np.ravel(number[index]) if fits else np.array([-1])
        if (chosen < 0).any():
            raise InputError(f"{name}{list(index)}: an index is {words}")
        found = np.zeros(self.values[name].size, bool)
        found[chosen] = True
        return found.reshape(self.values[name].shape)

    # Tangents: what moves when the entries `where` of a parameter grow by one unit ------------------------------------

    def _axis_tangent(self, name: str, where: np.ndarray) -> np.ndarray:
        st, ct, sp, cp = np.sin(self.theta), np.cos(self.theta), np.sin(self.phi), np.cos(self.phi)
        by_theta, by_phi = (ct * cp, ct * sp, -st), (-st * sp, st * cp, 0 * st)
        return where[:, None] * np.stack(by_theta if name == "theta_op" else by_phi, axis=1)

    def _cosines_tangent(self, name: str, where: np.ndarray) -> np.ndarray:
        if name not in ("theta_op", "phi_op"):
            return np.zeros_like(self.c)
        du = self._axis_tangent(name, where)
        return np.array([[model.cosines_tangent(du, q) for q in points] for points in self.q])

    def _density_tangent(self, name: str, where: np.ndarray) -> np.ndarray:
        if name not in FIELDS:
            return np.zeros_like(self.f)
        dA, dB = (1.0 * where if name == moved else np.zeros(where.shape) for moved in ("A", "B"))

        def tangent(c: np.ndarray, dc: np.ndarray) -> np.ndarray:
            return model.density_tangent(self.A, self.B, c, dA, dB, dc)

        changes = self._cosines_tangent(name, where)
        return np.array(
            [
                self._summed([tangent(*pair) for pair in zip(*scan, strict=True)])
                for scan in zip(self.c, changes, strict=True)
            ]
        )

    def _image_tangent(self, name: str, where: np.ndarray) -> np.ndarray:
        if name in OFFSETS:
            moves = [(float(on), 0.0) if name == "j_offset" else (0.0, float(on)) for on in where]
            g, mask = self.problem.geometry, self.problem.mask.ravel()
            changes = [model.joseph_matrix_tangent(g, n, *move)[:, mask] for n, move in enumerate(moves)]
            return np.array([model.project(p, f) for p, f in zip(changes, self.f, strict=True)])
        df = self._density_tangent(name, where)
        return np.array([model.project(p, f) for p, f in zip(self.matrices, df, strict=True)])

    def _seen_tangent(self, name: str, where: np.ndarray) -> np.ndarray:
        if name == "transmission":
            return where[:, :, None] * self.image
        pairs = zip(self._image_tangent(name, where), self.through, strict=True)
        return np.array([model.transmit(*pair) for pair in pairs])

    # Cotangents of the fields -----------------------------------------------------------------------------------------

    @cached_property
    def _by_density(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the cost's derivatives by A and B, shape (V,), and by the cosines, shape (n, G, V, S)."""
        by_a, by_b, by_c = np.zeros_like(self.A), np.zeros_like(self.B), np.empty_like(self.c)
        for n, points in enumerate(self.c):
            for g, (share, c) in enumerate(zip(self.share, points, strict=True)):
                a, b, by_c[n, g] = model.density_cotangent(self.A, self.B, c, share * self.by_f[n])
                by_a, by_b = by_a + a, by_b + b
        return by_a, by_b, by_c

    @cached_property
    def _by_axis(self) -> np.ndarray:
        by_c = self._by_density[2]
        pairs = [(g, q) for gs, points in zip(by_c, self.q, strict=True) for g, q in zip(gs, points, strict=True)]
        return np.sum([model.cosines_cotangent(*pair) for pair in pairs], axis=0)

    def cotangent(self, name: str) -> np.ndarray:
        """Return the cost's derivative by each entry of `values`."""
        if name in ("A", "B"):
            return self._by_density[("A", "B").index(name)]
        if name in FIELDS:
            return angle_gradients(self.theta, self.phi, self._by_axis)[FIELDS.index(name) - 2]
        if name == "transmission":
            return np.sum(self.by_seen * self.image, axis=-1)
        moved = self._image_tangent(name, np.ones(len(self.q), bool))
        return np.sum(self.by_image * moved, axis=(1, 2))

    # What is shown ----------------------------------------------------------------------------------------------------

    def stages(self, label: str, name: str, where: np.ndarray) -> tuple[Stage, ...]:
        """Return the stages from the parameter to the cost."""
        unit, one = PARAMETERS[name][0], np.ones(())
        values, cotangent = self.values[name], self.cotangent(name)
        found = [Stage(label, "", unit, np.array(values[where].mean()), one, np.array(cotangent[where].sum()))]
        if name in ("theta_op", "phi_op"):
            found += [
                Stage("axis", "u = (sin T cos F, sin T sin F, cos T)", "", self.u, self._axis_tangent(name, where),
                      self._by_axis),
                Stage("cosines", "c = u . q", "", self.c, self._cosines_tangent(name, where), self._by_density[2]),
            ]  # fmt: skip
        else:
            whole = {"A": "amplitudes", "B": "anisotropies", "transmission": "transmissions"}.get(name, "rays")
            found.append(Stage(whole, f"{name} of each", unit, values, 1.0 * where, cotangent))
        if name in FIELDS:
            df = self._density_tangent(name, where)
            found.append(Stage("density", "f = A^2 exp(-B (1 - c^2))", "intensity/edge", self.f, df, self.by_f))
        if name != "transmission":
            moved = self._image_tangent(name, where)
            found.append(Stage("projection", "P f, Joseph's rule", "intensity", self.image, moved, self.by_image))
        moved = self._seen_tangent(name, where)
        grown = np.array(np.sum(self.by_seen * moved))
        formula = "2 sum w (sqrt(I^ + e0) - sqrt(I + e0))^2"
        return (
            *found,
            Stage("intensity", "I^ = T P f", "intensity", self.seen, moved, self.by_seen),
            Stage("cost", formula, "", np.array(self.loss), grown, one),
        )

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        """How each parameter, all of it together, moves the weighted intensities."""
        root = np.sqrt(self.normal)
        return {name: root * self._seen_tangent(name, np.ones(self.values[name].shape, bool)) for name in PARAMETERS}

    def alike(self, name: str) -> tuple[tuple[str, float], ...]:
        """Return how much alike the parameters move the data."""
        return correlations(tuple(self._columns), tuple(self._columns.values()), list(self._columns).index(name))

    def _parts(self, name: str, where: np.ndarray) -> np.ndarray:
        """Return what each value of the data adds to the derivative."""
        return self.by_seen * self._seen_tangent(name, where)

    def pictures(self, name: str, where: np.ndarray) -> tuple[Picture, ...]:
        """Return where the parameter acts: each projection; a slice of the volume, or the image of a projection."""
        parts = self._parts(name, where)
        by_projection = parts.sum(axis=(1, 2))
        title, last = f"where {name} acts: part of the cost's derivative", float(len(parts) - 1)
        first = Picture(
            f"{title}, by projection", "per projection", by_projection, "projection", extent=(0, last, 0, 1)
        )
        most = int(np.argmax(np.abs(by_projection)))
        if name in FIELDS:
            volume = np.zeros(self.problem.mask.shape)
            volume[self.problem.mask] = self.cotangent(name) * where
            most = int(np.argmax(np.abs(volume).sum(axis=(0, 1))))
            values, unit, words, axes = volume[:, :, most].T, "per voxel", f"slice z = {most}", ("x", "y")
        else:
            rows, columns = self.problem.geometry.projection_shape
            values = parts[most].sum(axis=1).reshape(rows, columns)
            unit, words, axes = "per pixel", f"projection {most}", ("k", "j")
        extent = (0.0, values.shape[1] - 1.0, 0.0, values.shape[0] - 1.0)
        return first, Picture(f"{title}, {words}", unit, values, *axes, extent)

    def words(self, name: str, where: np.ndarray, found: tuple[tuple[str, float], ...]) -> tuple[str, ...]:
        """Return what sign and size say of this case."""
        parts, moved = self._parts(name, where), self._seen_tangent(name, where)
        derivative, bend = float(parts.sum()), float(np.sum(self.normal * moved**2))
        unit = f" {PARAMETERS[name][0]}".rstrip()
        better = "lower" if derivative > 0 else "raise"
        sentences = [
            f"Growing it by 0.01{unit} changes the cost ({self.loss:.5g}) by {0.01 * derivative:+.3g}: {better} it "
            f"for a better fit.",
        ]
        if bend > 0:
            sentences.append(
                f"Alone, its best value is {-derivative / bend:+.3g}{unit} away (a Gauss-Newton step), known to "
                f"{1 / np.sqrt(bend):.2g}{unit} if weights are inverse variances; the model has "
                f"{np.sum(self.weight.reshape(self.seen.shape) * self.seen) / self._measured():.3f} of the measured "
                f"intensity."
            )
        by_projection = np.abs(parts.sum(axis=(1, 2)))
        if by_projection.sum() > 0:
            order = np.argsort(-by_projection)
            half = 1 + int(np.searchsorted(np.cumsum(by_projection[order]), by_projection.sum() / 2))
            sentences.append(
                f"Half of it comes from {half} of {by_projection.size} projections, most from projection {order[0]}"
                f"{self._voxel(name, where)}."
            )
        whole = np.abs(parts).sum()
        if whole > 0 and abs(derivative) < 0.01 * whole:
            sentences.append(f"Its parts cancel to {abs(derivative) / whole:.1%}: small is the sum, not its influence.")
        return (*sentences, *filter(None, [confusing(found)]))

    def _measured(self) -> float:
        return float(np.sum(self.weight * self.measured)) or 1.0

    def _voxel(self, name: str, where: np.ndarray) -> str:
        """Return words for the voxel that acts most."""
        if name not in FIELDS or where.sum() == 1:
            return ""
        most = int(np.argmax(np.abs(self.cotangent(name))))
        x, y, z = np.argwhere(self.problem.mask)[most]
        return f", and most of all from voxel [{x}, {y}, {z}] (A {self.A[most]:.3g}, B {self.B[most]:+.3g})"
