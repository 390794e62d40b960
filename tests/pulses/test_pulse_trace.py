"""The trace of a pulse: its derivative against differences of the kernel's loss, single steps, aliases, wrong names."""

import numpy as np
import pytest

from exactgrad.core.verify import best_central_difference
from exactgrad.errors import InputError
from exactgrad.pulses import model, trace
from exactgrad.pulses.ensemble import Ensemble
from exactgrad.pulses.problem import PulseProblem

JOB = {
    "pulse": {"duration_us": 40.0, "step_us": 2.0, "controls": "xyz"},
    "target": {"transfer": ["z", "x"]},
    "ensemble": {"bandwidth_hz": 8000.0, "offsets": 5, "b1_spread": 0.1, "b1_points": 3},
}


@pytest.fixture
def problem():
    return PulseProblem.from_job(JOB)


def changed(problem, name, step, amount):
    """Return the loss with a parameter changed, by the equation sheet, the change put in by hand."""
    walk = trace.Walk(problem)
    u, ensemble = walk.u.copy(), problem.ensemble
    chosen = slice(None) if step is None else slice(step, step + 1)
    amplitude, phase = np.hypot(u[0], u[1]), np.arctan2(u[1], u[0])
    if name in ("ux", "uy", "uz"):
        u["xyz".index(name[1]), chosen] += amount
    if name == "amplitude":
        amplitude[chosen] += amount
    if name == "phase":
        phase[chosen] += np.radians(amount)
    if name in ("amplitude", "phase"):
        u[:2] = amplitude * np.cos(phase), amplitude * np.sin(phase)
    offset = ensemble.offset_hz + (amount if name == "offset" else 0.0)
    b1 = ensemble.b1 + (amount if name == "b1" else 0.0)
    spins = Ensemble(offset, b1, ensemble.weight)
    args = u, walk.step_s, spins, problem.cost, problem.objective, problem.weight
    return model.gradient_by_waveform(*args)[0]


@pytest.mark.parametrize("step", [None, 7])
@pytest.mark.parametrize("name", trace.names())
def test_against_differences(problem, name, step):
    if name in trace.OF_SPINS and step is not None:
        return
    found = trace._traced(problem, name if step is None else f"{name}[{step}]", "here")
    scale = 1e-2 if name == "b1" else 30.0
    wanted = best_central_difference(lambda x: changed(problem, name, step, scale * x[0]), np.zeros(1), np.ones(1))
    assert found.agrees
    assert abs(scale * found.derivative - wanted.value) <= 1e-10 * max(abs(wanted.value), 1e-3)


def test_names_and_steps_that_are_not_there():
    for wrong in ("omega", "amplitude[250]", "offset[3]", "amplitude[-1]", "phase[1.5]", ""):
        with pytest.raises(InputError):
            trace.trace(wrong)
    assert trace.trace("theta_x[3]").parameter == "ux[3]"


def test_a_sheet_with_a_lost_sign_disagrees(monkeypatch):
    right = model.rotation_vectors_cotangent
    monkeypatch.setattr(model, "rotation_vectors_cotangent", lambda *a: right(*a) * np.array([[1.0], [-1.0], [1.0]]))
    assert not trace.trace("uy").agrees
