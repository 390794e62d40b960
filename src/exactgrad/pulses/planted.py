"""Bugs put in on purpose, each through the checker that judges the real code: a row passes when its bug is caught.

They are the slips that papers and programs of this field have made: misprinted equations of Slad & Luy (see the
audit), transposes, dropped factors, first-order gradients passed off as exact ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exactgrad.core import verify
from exactgrad.core.transforms import Chain, EnergyScaling, EnergyTanh, Hold, Mirror, RadialTanh, tanh_ratio
from exactgrad.core.verify import Altered, Check, judge, plant
from exactgrad.pulses import model
from exactgrad.pulses.controls import Polar
from exactgrad.pulses.model import EQUATIONS, Stages
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.targets import Cost, Rotation, Transfer
from exactgrad.rotations import maps, quaternions

KERNEL_TOLERANCE = 1e-12


def planted_bugs(problems: dict[str, PulseProblem], points: dict[str, np.ndarray]) -> list[Check]:
    """Run every planted bug; `points` holds one vector for each problem of `verification.example_problems`."""
    makers = (_of_the_cotangents, _of_the_objective, _of_the_forward_stages, _of_the_maps, _of_the_rest)
    return [check for maker in makers for check in maker(problems, points)]


Rows = Iterator[Check]
Problems = dict[str, PulseProblem]
Points = dict[str, np.ndarray]


def _of_the_cotangents(problems: Problems, points: Points) -> Rows:
    """A right value with a wrong gradient: the gradient checker must see it."""
    mean_step = {name: np.full(p.steps, p.step_s.mean()) for name, p in problems.items()}

    def pull(t_to_u: Callable) -> Stages:
        return replace(EQUATIONS, rotation_vectors_cotangent=t_to_u)

    def without_b1(g: np.ndarray, step_s: np.ndarray, ensemble: Any) -> np.ndarray:
        return model.rotation_vectors_cotangent(g, step_s, replace(ensemble, b1=np.ones(ensemble.spins)))

    def b1_on_z(g: np.ndarray, step_s: np.ndarray, ensemble: Any) -> np.ndarray:
        return model.rotation_vectors_cotangent(g * np.where([0, 0, 1], ensemble.b1[:, None], 1.0), step_s, ensemble)

    def from_next_step(turns: np.ndarray, m: np.ndarray) -> np.ndarray:
        swept = model.total_turn_cotangent(turns, m)
        return np.concatenate((swept[1:], swept[-1:]))

    def without_c(t: np.ndarray, m: np.ndarray) -> np.ndarray:
        b = maps.even_coefficients((t * t).sum(axis=-1))[1]
        return m - b[..., None] * np.cross(t, m)

    uneven = "universal rotation"
    bugs = {
        "transposed R in the reversed sweep": (
            "excitation",
            replace(
                EQUATIONS, total_turn_cotangent=lambda q, m: model.total_turn_cotangent(quaternions.conjugate(q), m)
            ),
        ),
        "sign of the generator of y": (
            "excitation",
            pull(lambda *a: model.rotation_vectors_cotangent(*a) * [[1], [-1], [1]]),
        ),
        "first-order (GRAPE) gradient": ("excitation", replace(EQUATIONS, step_turns_cotangent=lambda t, m: m)),
        "c term dropped in J": ("excitation", replace(EQUATIONS, step_turns_cotangent=without_c)),
        "J instead of its transpose": (
            "excitation",
            replace(EQUATIONS, step_turns_cotangent=lambda t, m: model.step_turns_cotangent(-t, m)),
        ),
        "m of the next step (off by one)": ("excitation", replace(EQUATIONS, total_turn_cotangent=from_next_step)),
        "x and y swapped": ("excitation", pull(lambda *a: model.rotation_vectors_cotangent(*a)[[1, 0, 2]])),
        "B1 factor dropped": ("excitation", pull(without_b1)),
        "B1 scales uz too": ("saturation", pull(b1_on_z)),
        "mean step for steps of several lengths": (
            uneven,
            pull(lambda g, step_s, ensemble: model.rotation_vectors_cotangent(g, mean_step[uneven], ensemble)),
        ),
        "commutator of Eq. 14 as printed": (
            uneven,
            replace(EQUATIONS, step_turns_cotangent=lambda t, m: m - maps.rotate(-t[0], m[0])),
        ),
    }
    for name, (which, stages) in bugs.items():
        yield plant(name, _gradient_with(problems[which], points[which], stages))
    which, stages = bugs["first-order (GRAPE) gradient"]
    slope = _gradient_with(problems[which], points[which], stages, verify.check_taylor)
    yield plant("first-order (GRAPE) gradient, Taylor", slope)


def _of_the_objective(problems: Problems, points: Points) -> Rows:
    def not_normalised(quality: np.ndarray, objective: Any, weight: np.ndarray) -> tuple[float, np.ndarray]:
        return model.loss(quality, objective, weight)[0], -weight * np.exp(
            objective.sharpness * (quality.min() - quality)
        )

    def of_the_mean(quality: np.ndarray, objective: Any, weight: np.ndarray) -> tuple[float, np.ndarray]:
        return model.loss(quality, objective, weight)[0], -weight

    def idle_lanes_count(quality: np.ndarray, objective: Any, weight: np.ndarray) -> tuple[float, np.ndarray]:
        value, share = model.loss(quality, objective, weight)
        idle = -quality.size % 8
        return value, np.concatenate((share[:-1], share[-1:] * (1 + idle)))

    bugs = {
        "weights of the smooth minimum not normalised": ("worst case", replace(EQUATIONS, loss=not_normalised)),
        "gradient of the mean for the worst case": ("worst case", replace(EQUATIONS, loss=of_the_mean)),
        "idle lanes of a block counted": ("excitation", replace(EQUATIONS, loss=idle_lanes_count)),
    }
    for name, (which, stages) in bugs.items():
        yield plant(name, _gradient_with(problems[which], points[which], stages))
    altered = copy.copy(problems["universal rotation"])
    altered.cost = _SignLost(altered.cost)
    yield plant("sign of a universal rotation lost", verify.check_gradient(altered, points["universal rotation"]))


def _of_the_forward_stages(problems: Problems, points: Points) -> Rows:
    """A wrong value with a gradient to match: only the comparison of kernel and equation sheet sees it."""
    which = "universal rotation"
    problem, x = problems[which], points[which]

    def printed_product(turns: np.ndarray) -> np.ndarray:
        """Eq. 34 as printed: +B_2 in place (2, 2)."""
        total = np.tile([1.0, 0.0, 0.0, 0.0], (turns.shape[1], 1))
        for turn in turns:
            wrong = (turn[:, 2] - turn[:, 0]) * total[:, 2]
            total = quaternions.multiply(turn, total)
            total[:, 2] += wrong
        return total

    def printed_length(t: np.ndarray) -> np.ndarray:
        """Eq. 26 as printed: (dt^2 omega)^2 where theta_xy^2 = dt^2 omega^2 is right."""
        across = (t[..., 0] ** 2 + t[..., 1] ** 2) * (problem.step_s[:, None]) ** 2
        angle = np.sqrt(across + t[..., 2] ** 2)
        return np.concatenate((np.cos(angle / 2)[..., None], (np.sin(angle / 2) / angle)[..., None] * t), axis=-1)

    def offset_twice(u: np.ndarray, step_s: np.ndarray, ensemble: Any) -> np.ndarray:
        return model.rotation_vectors(u, step_s, replace(ensemble, offset_hz=2 * ensemble.offset_hz))

    bugs = {
        "Eq. 34 as printed (+B_2)": replace(EQUATIONS, total_turn=printed_product),
        "Eq. 26 as printed ((dt^2 omega)^2)": replace(EQUATIONS, step_turns=printed_length),
        "Eq. 23 as printed (offset twice)": replace(EQUATIONS, rotation_vectors=offset_twice),
        "steps in reversed order": replace(EQUATIONS, total_turn=lambda turns: model.total_turn(turns[::-1])),
    }
    for name, stages in bugs.items():
        yield plant(name, check_kernel(problem, x, stages=stages))
    value_and_gradient = problem.value_and_gradient

    def single(y: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = value_and_gradient(y)
        return value, gradient.astype(np.float32).astype(float)

    yield plant("gradient in single precision", check_kernel(Altered(problem, value_and_gradient=single), x))


def _of_the_maps(problems: Problems, points: Points) -> Rows:
    """A wrong transpose of a map, in the whole problem."""

    def printed_eq50(link: EnergyTanh, u: np.ndarray, g: np.ndarray) -> np.ndarray:
        """The off-diagonal terms with the sign of Eq. 50 as printed."""
        energy = np.sum(link.weights * (u[0] ** 2 + u[1] ** 2))
        f = float(tanh_ratio(energy / link.limit))
        sech2 = 1 - energy / link.limit * f * f
        y = g.copy()
        y[:2] = f * g[:2] + (f + sech2) / energy * np.sum(u[:2] * g[:2]) * link.weights * u[:2]
        return y

    def factor_only(link: EnergyScaling, u: np.ndarray, g: np.ndarray) -> np.ndarray:
        return g * np.array([[link.factor(u)[0]], [link.factor(u)[0]], [1.0]])

    def without_slope(link: RadialTanh, u: np.ndarray, g: np.ndarray) -> np.ndarray:
        f = tanh_ratio((u[0] ** 2 + u[1] ** 2) / link.limit**2)
        return g * np.stack((f, f, np.ones_like(f)))

    def wrong_parity(link: Mirror, u: np.ndarray, g: np.ndarray) -> np.ndarray:
        return replace(link, signs=tuple(-sign for sign in link.signs)).pull(u, g)

    def amplitude_forgotten(link: Polar, u: np.ndarray, g: np.ndarray) -> np.ndarray:
        y = link.pull(u, g)
        y[1] = link.scale_hz * (g[1] * np.cos(u[1]) - g[0] * np.sin(u[1]))
        return y

    bugs = (
        ("sign of Eq. 50 as printed", "universal rotation, sign free", EnergyTanh, printed_eq50),
        ("projection of the exact scaling dropped", "universal rotation", EnergyScaling, factor_only),
        ("slope of the peak limit dropped", "excitation", RadialTanh, without_slope),
        ("mirror folded with the wrong sign", "symmetric", Mirror, wrong_parity),
        ("held steps not zero in the gradient", "held", Hold, lambda link, u, g: g),
        ("phase derivative without its amplitude", "universal rotation", Polar, amplitude_forgotten),
    )
    for name, which, kind, pull in bugs:
        altered = _with_link(problems[which], kind, pull=pull)
        yield plant(name, verify.check_gradient(altered, points[which]))
    radial = next(link for link in problems["excitation"].chain.links if isinstance(link, RadialTanh))
    u = problems["excitation"].scale_hz * np.random.default_rng(0).normal(size=(3, problems["excitation"].steps))
    wrong = _Wrong(radial, pull=without_slope)
    yield plant("slope of the peak limit dropped, dot test", verify.check_transform(wrong, u)[1])
    altered = copy.copy(problems["response"])
    altered.response = _Wrong(altered.response, pull=_without_conjugate)  # type: ignore[assignment]
    yield plant("response not conjugated in its transpose", verify.check_gradient(altered, points["response"]))


def _without_conjugate(link: Any, u: np.ndarray, g: np.ndarray) -> np.ndarray:
    return replace(link, taps=link.taps.conj()).pull(u, g)


def _of_the_rest(problems: Problems, points: Points) -> Rows:
    problem, x = problems["penalties"], points["penalties"]
    bare = copy.copy(problem)
    bare.penalties = ()
    wrong = Altered(problem, hessian_product=bare.hessian_product)
    yield plant("penalties left out of the Hessian", verify.check_hessian(wrong, x)[0])

    problem, x = problems["excitation"], points["excitation"]
    flat = _with_link(problem, RadialTanh, pull_tangent=lambda link, u, v, g: 0.0 * u)
    wrong = Altered(problem, hessian_product=flat.hessian_product)
    yield plant("curvature of the peak limit left out of the Hessian", verify.check_hessian(wrong, x)[0])
    wrong = Altered(problem, hessian_product=lambda y, v: problem.hessian_product(y, np.roll(v, 1)))
    yield plant("a Hessian that is not symmetric", verify.check_hessian(wrong, x)[1])

    allowed: list[int | None] = [None]

    def by_threads(y: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = problem.value_and_gradient(y)
        return value + verify.EPSILON * (allowed[-1] or 0), gradient

    counting = Altered(problem, limit_threads=allowed.append, value_and_gradient=by_threads)
    yield plant("a sum that depends on the threads", verify.check_determinism(counting, x))

    rest = np.zeros(problem.size)
    nowhere = by_reference("tables", problem, rest)
    wrong = Altered(problem, value_and_gradient=lambda y: (problem.value_and_gradient(y)[0], nowhere))
    yield plant("Tables 1 and 2 at zero amplitude on resonance (0/0)", verify.check_gradient(wrong, rest))


def check_kernel(problem: Any, x: np.ndarray, name: str = "kernel", stages: Stages = EQUATIONS) -> Check:
    """Compare the fused kernel with the equation sheet at x."""
    error, where = model.kernel_error(problem, x, stages)
    return judge(name, "equation sheet (model.py)", error, KERNEL_TOLERANCE, where)


def by_reference(method: str, problem: PulseProblem, x: np.ndarray) -> np.ndarray:
    """Return the gradient by x of a mean of transfers or rotations, by one of the paper's methods."""
    from exactgrad.pulses import reference

    inputs = problem.chain.trace(x)
    cost, ensemble = problem.cost, problem.ensemble
    if isinstance(cost, Transfer):
        words: tuple = ("transfer", *(np.broadcast_to(v, (3, ensemble.spins)).T for v in (cost.initial, cost.target)))
    elif isinstance(cost, Rotation) and not cost.sign_free:
        words = ("rotation", np.broadcast_to(cost.target, (4, ensemble.spins)).T)
    else:
        raise TypeError(f"the paper has no gradient for {type(cost).__name__}")
    pulse = Pulse(problem.step_s, *inputs[-1])
    _, gradient = reference.gradient(method, pulse, ensemble.offset_hz, ensemble.b1, problem.weight, words)
    return problem.chain.pull_traced(inputs, -gradient)


def _gradient_with(problem: PulseProblem, x: np.ndarray, stages: Stages, check: Any = verify.check_gradient) -> Check:
    """Judge the gradient at x that a corrupted equation sheet gives, beside the right value."""
    _, wrong = model.value_and_gradient(problem, x, stages)
    return check(Altered(problem, value_and_gradient=lambda y: (problem.value_and_gradient(y)[0], wrong)), x)


def _with_link(problem: PulseProblem, kind: type, **wrong: Callable) -> PulseProblem:
    """Return the problem with some acts of every link of its chain that is a `kind` replaced, as in `_Wrong`."""
    links = [_Wrong(link, **wrong) if isinstance(link, kind) else link for link in problem.chain.links]
    altered = copy.copy(problem)
    altered.chain = Chain(tuple(links))
    return altered


@dataclass(frozen=True)
class _SignLost:
    """A universal rotation judged by |Q_F . Q|, with the gradient of Q_F . Q."""

    cost: Cost

    def evaluate(self, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        quality, m = self.cost.evaluate(turns)
        return np.abs(quality), m

    def tangent(self, turns: np.ndarray, turning: np.ndarray) -> np.ndarray:
        return self.cost.tangent(turns, turning)


@dataclass(frozen=True)
class _Wrong:
    """A transform with one act replaced; the replacement is given the right transform first."""

    right: Any
    pull: Any = None
    pull_tangent: Any = None

    def __post_init__(self) -> None:
        for act in ("pull", "pull_tangent"):
            bug = getattr(self, act)
            object.__setattr__(self, act, getattr(self.right, act) if bug is None else self._bind(bug))

    def _bind(self, bug: Callable) -> Callable:
        return lambda *arguments: bug(self.right, *arguments)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return T(x)."""
        return self.right.apply(x)

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return T'(x) v."""
        return self.right.push(x, v)
