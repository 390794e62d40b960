"""The fits of a reconstruction, one after the other; which one is next follows from what the earlier ones found.

place N  coarse offsets from the mean intensities (where alignment is asked for)
mean     the voxels that no empty ray contradicts; their amplitudes, if they scattered alike in all directions
tensor   a rank-2 tensor in each -> axis, sign of B, first A and B
align N  the uniaxial model, smooth -> offsets of the projections (where asked for)
weight N the uniaxial model with falling weights of the regularisation, some pixels held out, voxels in the other basin
         moved on the way -> the weight
again N  the same from the tensors once more, begun at a smaller weight, where that predicts the held-out pixels better
all      the uniaxial model, all data, the chosen weight; voxels that came out empty are left out from here on
swap N   all again with voxels in the other basin (see `basin.py`), kept where the data are explained better
last     all once more, to the end, where swaps have moved more than a few voxels

How bright a voxel came out in the fit before says how much its likeness to its neighbours counts in the next.

What the fits have found is a `Journal` of arrays: with the checkpoint of the fit that is under way it is the whole
state of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from exactgrad.tomography import alignment, basin, choose_weight, derived, starts
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.reconstruct_job import Job
from exactgrad.tomography.scaling import InUnits, steps_of
from exactgrad.tomography.uniaxial import mean_over_sphere

LINEAR_TOLERANCE = 1e-5  # per iteration, of the fits that only make a start
PATH_TOLERANCE = 1e-6
DESCENTS = {"weight": 0, "again": 7}  # where among the weights each way down begins
GLIMPSE = 2  # weights of the second way down after which it is given up where the first one predicts better
WEIGHT_TOLERANCE = 1e-5
PLACE_ITERATIONS = 40
MEAN_ITERATIONS = 10
TENSOR_ITERATIONS = 25  # more would fit the noise: the axes are best after 15 to 40
WARM_ITERATIONS = 40  # at least, of a weight that starts from the last one: a fit cut short is smoother than its weight
WARM_WORK = 2e9  # projections x voxels x segments x iterations of such a fit
ALIGN_WEIGHT = 1.0  # of the regularisation while offsets are refined
EMPTY = 2e-5  # of a bright voxel's mean intensity: a voxel below is left out of the last fits
SWAP_SHARE = 1e-3  # of the voxels: fewer swapped on the way to the weight are the last there
SWAP_GAIN = 6e-4  # of the loss: a round of swaps that gains less is the last; a fit not yet at its end would gain that


@dataclass
class Journal:
    """What the finished fits have found: arrays by "fit/name", in the order in which they were found."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def done(self, fit: str) -> bool:
        """Say whether a fit is finished."""
        return f"{fit}/history" in self.arrays

    def add(self, fit: str, found: dict[str, np.ndarray], history: np.ndarray, spent: np.ndarray) -> None:
        """Put a finished fit in: what it found, its losses, and its iterations, evaluations and seconds."""
        self.arrays |= {f"{fit}/{name}": np.asarray(values) for name, values in found.items()}
        self.arrays |= {f"{fit}/spent": spent, f"{fit}/history": history}

    def begin(self, start: dict[str, Any]) -> None:
        """Put in where the reconstruction starts: what `Plan` is given, and ``offsets``."""
        self.arrays |= {f"start/{name}": np.asarray(values) for name, values in start.items()}

    def start(self) -> dict[str, np.ndarray] | None:
        """Return what `begin` put in, or None."""
        found = {name[6:]: values for name, values in self.arrays.items() if name.startswith("start/")}
        return found or None

    def spent(self) -> np.ndarray:
        """Return iterations, evaluations and seconds of all finished fits."""
        return sum((values for name, values in self.arrays.items() if name.endswith("/spent")), np.zeros(3))

    def held_out(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the weights that were tried, in their order, and the costs of the held-out pixels, or None."""
        fits = [name.removesuffix("/held") for name in self.arrays if name.endswith("/held")]
        if not fits:
            return None
        costs = [float(self.arrays[f"{fit}/held"].sum()) for fit in fits]
        return np.array([float(self.arrays[f"{fit}/tried"]) for fit in fits]), np.array(costs)

    def histories(self) -> dict[str, np.ndarray]:
        """Return the loss after each iteration of every fit, by its name."""
        return {
            name.removesuffix("/history"): values for name, values in self.arrays.items() if name.endswith("/history")
        }


@dataclass(frozen=True)
class Fit:
    """One fit: its problem and start, its budget, and what of its result goes into the journal.

    `keep` gets the result's vector and returns arrays by name. What ends the final fit ends the run.
    """

    name: str
    title: str
    problem: Any
    x: np.ndarray
    iterations: int
    tolerance: float
    keep: Callable[[np.ndarray], dict[str, np.ndarray]]
    is_final: bool = False


class Plan:
    """Which fit comes next, and what the journal means.

    Parameters
    ----------
    data : Dataset
    job : Job
    threads : int or None
    start : dict of str to ndarray, optional
        A, B, axis, mask and weight of a reconstruction to start from (another q): the fits before "all" are left out.
    """

    def __init__(self, data: Dataset, job: Job, threads: int | None = None, start: dict[str, Any] | None = None):
        self.data, self.job, self.threads, self.given = data, job, threads, start

    @cached_property
    def whole(self) -> TomographyProblem:
        """The problem of all voxels."""
        return TomographyProblem(self.data, cost=self.job.model.cost, e0=self.job.model.e0, threads=self.threads)

    def next(self, journal: Journal) -> Fit | None:
        """Return the next fit, or None where the reconstruction is finished."""
        for turn in range(alignment.PLACINGS if self.job.align.rounds and self.given is None else 0):
            if not journal.done(f"place {turn + 1}"):
                return self._place(journal, turn)
            if float(journal.arrays[f"place {turn + 1}/moved"]) <= alignment.COARSE:
                break
        if not journal.done("mean"):
            return self._mean(journal)
        if self.given is None and not journal.done("tensor"):
            return self._tensor(journal)
        for turn in range(self.job.align.rounds):
            if not journal.done(f"align {turn + 1}"):
                return self._align(journal, turn)
        if self.given is None and self.job.regularisation.weight == "auto" and "weight" not in journal.arrays:
            return self._weight(journal)
        if not journal.done("all"):
            return self._all(journal)
        return None if journal.done("last") else self._next_swap(journal) or self._last(journal)

    def _next_swap(self, journal: Journal) -> Fit | None:
        for turn in range(self.job.basin.rounds):
            if not journal.done(f"swap {turn + 1}"):
                return self._swap(journal, turn)
            _, before, after = journal.arrays[f"swap {turn + 1}/counts"]
            if before - after <= SWAP_GAIN * before:
                break
        return None

    # What the journal means -----------------------------------------------------------------------------------------

    def mask(self, journal: Journal) -> np.ndarray:
        """Return the voxels that are there."""
        return journal.arrays.get("chosen/mask", journal.arrays["mean/mask"]).astype(bool)

    def unit(self, journal: Journal) -> float:
        """Return what a weight of 1 is in the cost's unit: the same whatever the weight has emptied."""
        return choose_weight.unit_of(self.whole.with_data(self.aligned(journal)).with_mask(self._first(journal)))

    def _first(self, journal: Journal) -> np.ndarray:
        """Return the voxels that were there before a weight was chosen."""
        return journal.arrays["mean/mask"].astype(bool)

    def weight(self, journal: Journal) -> float:
        """Return the weight of the regularisation."""
        if self.given is not None:
            return float(self.given["weight"])
        if self.job.regularisation.weight != "auto":
            return float(self.job.regularisation.weight)
        return float(journal.arrays["weight"])

    def aligned(self, journal: Journal) -> Dataset:
        """Return the data with the offsets found so far."""
        offsets = [values for name, values in journal.arrays.items() if name.endswith("/offsets")]
        if not offsets:
            return self.data
        return self.data.with_geometry(self.data.geometry.with_offsets(*offsets[-1]))

    def problem(self, journal: Journal) -> TomographyProblem:
        """Return the problem of the last fit: all data, the chosen weight."""
        problem = self.whole.with_data(self.aligned(journal)).with_mask(self.mask(journal))
        return self._regularised(journal, problem, self.weight(journal), self.unit(journal))

    def _regularised(
        self, journal: Journal, problem: TomographyProblem, weight: float, unit: float
    ) -> TomographyProblem:
        light = choose_weight.light_of(self._brightness(journal, problem))
        return problem.with_regularisation(
            choose_weight.regularisation_of(self.job.regularisation, weight, unit, light)
        )

    def _brightness(self, journal: Journal, problem: TomographyProblem) -> np.ndarray:
        """Return the voxels' mean intensity, as the latest fit on the way to the weight found it, shape (V,)."""
        if self.given is not None:
            A, B = (self.given[name][problem.mask] for name in ("A", "B"))
            return derived.mean_intensity(A, B)
        descent = self._descent(journal)
        latest = f"{descent} {len(self._tried(journal, descent))}/x"
        x = journal.arrays.get("chosen/x", journal.arrays.get(latest))
        if x is None:
            return journal.arrays["mean/mean"][problem.mask]
        rows = problem.rows(x)
        return derived.mean_intensity(rows[:, 0], rows[:, 1])

    def best(self, journal: Journal) -> np.ndarray | None:
        """Return the best vector of the problem of the last fit, or None before "all" is finished."""
        found = [
            values
            for name, values in journal.arrays.items()
            if name.endswith("/x") and name.split("/")[0].split(" ")[0] in ("all", "swap", "last")
        ]
        return found[-1] if found else None

    def lifted(self, journal: Journal, fit: Fit | None, x: np.ndarray | None) -> tuple[TomographyProblem, np.ndarray]:
        """Return the last fit's problem and a vector of it made of whatever there is, for a run that was stopped."""
        found = Journal(dict(journal.arrays))
        if fit is not None and x is not None:
            found.arrays |= {f"{fit.name}/{key}": value for key, value in fit.keep(x).items()}
        if "mean/mean" not in found.arrays:
            first = self._mean(found)
            found.arrays |= {f"mean/{key}": value for key, value in first.keep(first.x).items()}
        if "weight" not in found.arrays:
            found.arrays["weight"] = np.array(choose_weight.WEIGHTS[0])
        problem, best = self.problem(found), self.best(found)
        if best is None:
            tried = [values for name, values in found.arrays.items() if name.endswith("/x")]
            best = tried[-1] if tried else problem.vector(**self.first_fields(found))
        return problem, best

    # The fits -------------------------------------------------------------------------------------------------------

    def _place(self, journal: Journal, turn: int) -> Fit:
        means = alignment.segment_means(self.aligned(journal))
        whole = TomographyProblem(means, cost=self.job.model.cost, e0=self.job.model.e0, threads=self.threads)
        problem = starts.mean_problem(whole)
        told, most = self.data.geometry, self.job.align.most_pixels

        def keep(x: np.ndarray) -> dict[str, np.ndarray]:
            offsets = alignment.placed(problem, x, told, most)
            before = np.array([problem.geometry.j_offset, problem.geometry.k_offset])
            return {"offsets": offsets, "moved": np.array(np.hypot(*(offsets - before)).max())}

        unit = choose_weight.unit_of(problem)
        return Fit(
            f"place {turn + 1}", f"offsets {turn + 1}", InUnits(problem, unit), problem.start(0),
            self._at_most(PLACE_ITERATIONS), LINEAR_TOLERANCE, keep,
        )  # fmt: skip

    def _mean(self, journal: Journal) -> Fit:
        whole = self.whole.with_data(self.aligned(journal))
        problem = starts.mean_problem(whole.with_mask(self._first_mask(whole)))

        def keep(x: np.ndarray) -> dict[str, np.ndarray]:
            return {"mean": problem.fields(x)["A"] ** 2, "mask": problem.mask.astype(np.uint8)}

        unit = choose_weight.unit_of(problem)
        return Fit(
            "mean", "mean intensity", InUnits(problem, unit), problem.start(0), self._at_most(MEAN_ITERATIONS),
            LINEAR_TOLERANCE, keep,
        )  # fmt: skip

    def _first_mask(self, whole: TomographyProblem) -> np.ndarray:
        if self.given is not None:
            return self.given["mask"].astype(bool)
        if not self.job.mask.automatic:
            return np.ones(whole.mask.shape, bool)
        return starts.hull_of(whole, self.job.mask.threshold)

    def _tensor(self, journal: Journal) -> Fit:
        train = self._train(journal)[0]
        problem = starts.tensor_problem(train, self.mask(journal), self.whole.scale, self.threads)
        mean = np.maximum(journal.arrays["mean/mean"], 0.0)
        first = np.concatenate([np.repeat(mean[..., None], 3, axis=-1), np.zeros((*mean.shape, 3))], axis=-1)
        unit = self.unit(journal)
        return Fit(
            "tensor", "tensors", InUnits(problem, unit), problem.vector(T=first),
            self._at_most(TENSOR_ITERATIONS), LINEAR_TOLERANCE, lambda x: {"T": problem.fields(x)["T"]},
        )  # fmt: skip

    def _align(self, journal: Journal, turn: int) -> Fit:
        """Return the fit of smooth voxels, which offsets are refined with.

        Voxels that may have detail make up for projections that are out of place, and those for the voxels; and a
        weight chosen before would be small, for the same reason.
        """
        problem = self.whole.with_data(self.aligned(journal)).with_mask(self.mask(journal))
        unit, told, most = self.unit(journal), self.data.geometry, self.job.align.most_pixels
        problem = self._regularised(journal, problem, ALIGN_WEIGHT, unit)
        start = journal.arrays[f"align {turn}/x"] if turn else problem.vector(**self.first_fields(journal))

        def keep(x: np.ndarray) -> dict[str, np.ndarray]:
            return {"x": x, "offsets": np.array(alignment.refine(problem, x, told, most, turn))}

        name, iterations = f"align {turn + 1}", self._at_most(self.job.solve.path_iterations)
        return _scaled(name, name, problem, unit, start, iterations, WEIGHT_TOLERANCE, keep)

    def _weight(self, journal: Journal) -> Fit:
        descent = self._descent(journal)
        number = len(self._tried(journal, descent))
        weight = choose_weight.WEIGHTS[DESCENTS[descent] + number]
        train, held = self._train(journal)
        unit = self.unit(journal)
        problem = self.whole.with_data(train).with_mask(self.mask(journal))
        problem = self._regularised(journal, problem, weight, unit)
        start = journal.arrays[f"{descent} {number}/x"] if number else problem.vector(**self.first_fields(journal))
        iterations = self.job.solve.path_iterations
        if number:
            work = problem.geometry.projections * problem.voxels * problem.geometry.segments
            iterations = min(iterations, max(WARM_ITERATIONS, int(WARM_WORK / work)))
        swapped = 0
        if number and self._still_swaps(journal, descent, problem.voxels):
            start, swapped = basin.swapped(problem, start, number) or (start, 0)

        def keep(x: np.ndarray) -> dict[str, np.ndarray]:
            costs = problem.with_data(held).cost_terms(x)
            return {"x": x, "held": costs, "tried": np.array(weight), "swapped": np.array(swapped)}

        name, title = f"{descent} {number + 1}", f"{descent} {weight:.1e}"
        return _scaled(name, title, problem, unit, start, self._at_most(iterations), WEIGHT_TOLERANCE, keep)

    def _still_swaps(self, journal: Journal, descent: str, voxels: int) -> bool:
        """Say whether voxels are offered other basins on the way to the weight: others make up for a trapped one.

        That would look like detail, for which the weight would come out too small.
        """
        before = [int(values) for values in self._found(journal, descent, "swapped")]
        return self.job.basin.rounds > 0 and (len(before) < 2 or before[-1] > SWAP_SHARE * voxels)

    def after(self, fit: Fit, journal: Journal) -> None:
        """Draw the conclusions of a fit that has just been put into the journal."""
        descent = fit.name.split(" ")[0]
        if descent not in DESCENTS or not self._is_over(journal, self._descent(journal)):
            return
        tried = {name: self._tried(journal, name) for name in DESCENTS}
        least = {name: min(float(costs.sum()) for costs in held) for name, held in tried.items() if held}
        better = min(least, key=least.__getitem__)
        chosen = choose_weight.choose(tried[better])[0]
        journal.arrays["weight"] = np.array(choose_weight.WEIGHTS[DESCENTS[better] + chosen])
        journal.arrays |= self._without_empty(journal, journal.arrays[f"{better} {chosen + 1}/x"])
        for name, held in tried.items():
            for number in range(len(held)):
                del journal.arrays[f"{name} {number + 1}/x"]

    def _descent(self, journal: Journal) -> str:
        """Return which way down to the weight is under way, or was the last one.

        Under a large weight bright rings may tell dim needles their sign of B, and no smaller weight gives it back:
        others make up for them, the weight comes out small, and it is worth to begin again, below. Begun there at once,
        noise would be taken for detail.
        """
        if not self._is_over(journal, "weight"):
            return "weight"
        chosen, _ = choose_weight.choose(self._tried(journal, "weight"))
        return "again" if chosen > DESCENTS["again"] else "weight"

    def _is_over(self, journal: Journal, descent: str) -> bool:
        """Say whether a way down has seen its best weight, or predicts no better than the one before it did."""
        held, begin = self._tried(journal, descent), DESCENTS[descent]
        if descent == "again" and len(held) >= GLIMPSE:
            before = self._tried(journal, "weight")[begin + GLIMPSE - 1]
            if held[GLIMPSE - 1].sum() >= before.sum():
                return True
        return bool(held) and (choose_weight.choose(held)[1] or begin + len(held) == len(choose_weight.WEIGHTS))

    def _without_empty(self, journal: Journal, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the journal keeps of the chosen weight's x: voxels that came out empty are there no more.

        They would be a fifth of the work of the last fits, and the slowest to settle: no data hold them.
        """
        problem = self.whole.with_mask(self._first(journal))
        rows = problem.rows(x)
        mean = derived.mean_intensity(rows[:, 0], rows[:, 1])
        mask = problem.mask.copy()
        mask[problem.mask] = mean > EMPTY * starts.bright(mean)
        mask = mask if mask.any() else problem.mask
        return {
            "chosen/mask": mask.astype(np.uint8),
            "chosen/x": self.whole.with_mask(mask).vector(**problem.fields(x)),
        }

    def _tried(self, journal: Journal, descent: str) -> list[np.ndarray]:
        """Return the held-out costs of the weights tried so far on a way down."""
        return self._found(journal, descent, "held")

    def _found(self, journal: Journal, descent: str, what: str) -> list[np.ndarray]:
        names = [name for name in journal.arrays if name.startswith(f"{descent} ") and name.endswith(f"/{what}")]
        return [journal.arrays[name] for name in names]

    def _all(self, journal: Journal) -> Fit:
        problem = self.problem(journal)
        x = journal.arrays.get("chosen/x")
        start = problem.vector(**self.first_fields(journal)) if x is None else x
        return self._to_the_end(journal, "all", "all parameters", problem, start)

    def _swap(self, journal: Journal, turn: int) -> Fit | None:
        """Return the fit of swapped voxels, or None where no voxel gains by a swap."""
        problem, x = self.problem(journal), self._required(journal)
        offered = basin.swapped(problem, x, turn)
        if offered is None:
            return None
        changed, voxels = offered
        unit = self.unit(journal)
        before = sum(problem_value(problem, x))
        number = turn + 1

        def keep(y: np.ndarray) -> dict[str, np.ndarray]:
            after = sum(problem_value(problem, y))
            counts = np.array([voxels, before / unit, after / unit])
            return {"x": y if after < before else x, "counts": counts}

        title, iterations = f"other basins, {voxels} voxels", self._at_most(self.job.solve.path_iterations)
        return _scaled(f"swap {number}", title, problem, unit, changed, iterations, PATH_TOLERANCE, keep)

    def _last(self, journal: Journal) -> Fit | None:
        """Return a fit from the swapped voxels to the end, or None where only a few were moved."""
        counts = [values for name, values in journal.arrays.items() if name.endswith("/counts")]
        moved = sum(int(voxels) for voxels, before, after in counts if after < before)
        if moved <= SWAP_SHARE * self.mask(journal).sum():
            return None
        return self._to_the_end(journal, "last", "all after swaps", self.problem(journal), self._required(journal))

    def _to_the_end(self, journal: Journal, name: str, title: str, problem: TomographyProblem, x: np.ndarray) -> Fit:
        solve = self.job.solve
        iterations, tolerance = solve.max_iterations, solve.tolerance
        return _scaled(name, title, problem, self.unit(journal), x, iterations, tolerance, lambda y: {"x": y}, True)

    def first_fields(self, journal: Journal) -> dict[str, np.ndarray]:
        """Return A, B and axis that the uniaxial model starts from."""
        if self.given is not None:
            return {name: self.given[name] for name in ("A", "B", "axis")}
        if "tensor/T" in journal.arrays:
            return starts.uniaxial_from_tensor(journal.arrays["tensor/T"], self.whole.scale)
        mean = journal.arrays["mean/mean"]
        B = np.full(mean.shape, starts.FIRST_B[0])
        axis = np.broadcast_to([0.0, 0.0, 1.0], (*mean.shape, 3))
        return {"A": np.sqrt(np.maximum(mean, 0.0) / mean_over_sphere(B)), "B": B, "axis": axis}

    def _train(self, journal: Journal) -> tuple[Dataset, Dataset]:
        table, data = self.job.regularisation, self.aligned(journal)
        if table.weight != "auto":
            return data, data
        return choose_weight.hold_out(data, table.held_out, self.job.solve.seed)

    def _at_most(self, iterations: int) -> int:
        return max(1, min(iterations, self.job.solve.max_iterations))

    def _required(self, journal: Journal) -> np.ndarray:
        x = self.best(journal)
        if x is None:
            raise RuntimeError("no fit of all parameters yet")
        return x


def _scaled(
    name: str,
    title: str,
    problem: TomographyProblem,
    unit: float,
    x: np.ndarray,
    iterations: int,
    tolerance: float,
    keep: Callable[[np.ndarray], dict[str, np.ndarray]],
    is_final: bool = False,
) -> Fit:
    """Return a fit of all parameters, each counted in steps that are good at x."""
    steps = steps_of(problem, x, unit)
    scaled = InUnits(problem, unit, steps)
    return Fit(name, title, scaled, steps.into(x), iterations, tolerance, lambda y: keep(steps.out(y)), is_final)


def problem_value(problem: TomographyProblem, x: np.ndarray) -> tuple[float, float]:
    """Return cost and regularisation at x."""
    return problem.value_and_gradient(x)[0], problem.penalty_and_gradient(x)[0]
