"""The PyTorch layer: gradcheck, the problem's own gradient, second backward, a network in front, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tomography_cases import small_geometry, small_problem

from exactgrad.errors import InputError

torch = pytest.importorskip("torch", reason="PyTorch is an extra; the test extras install it where pip has it")
CHARTS = ("axis", "angles")


def layer(chart="axis", seed=1, **options):
    from exactgrad.tomography.torch import UniaxialProjection

    problem = small_problem(seed)
    return UniaxialProjection(problem.data, mask=problem.mask, chart=chart, **options)


@pytest.mark.parametrize("chart", CHARTS)
def test_gradcheck(chart):
    from exactgrad.tomography.torch import UniaxialProjection

    geometry = small_geometry(2, n=2, volume_shape=(2, 1, 2), projection_shape=(3, 2), detector_angles=[0.1, 0.9])
    model = UniaxialProjection(geometry, chart=chart)
    inputs = [p.detach().clone().requires_grad_() for p in model.parameters()]
    assert torch.autograd.gradcheck(lambda *fields: model(**dict(zip(model.names, fields, strict=True))), inputs)


def test_the_axis_may_have_any_length():
    model = layer()
    twice = (2.5 * model.axis).detach().requires_grad_()
    assert torch.allclose(model(axis=twice), model(), rtol=1e-13)
    model().log1p().sum().backward()
    model(axis=twice).log1p().sum().backward()
    assert torch.allclose(2.5 * twice.grad, model.axis.grad, atol=1e-12)


@pytest.mark.parametrize("chart", CHARTS)
def test_the_gradient_is_the_problems(chart):
    """The note's cost written in torch has the gradient that `loss_and_gradient` has."""
    problem = small_problem(1, e0=0.1)
    model = layer(chart)
    measured = torch.tensor(np.nan_to_num(problem.data.data), dtype=torch.float64)
    weight = torch.tensor(problem.data.weights * np.isfinite(problem.data.data))
    loss = 2 * (weight * ((model() + 0.1).sqrt() - (measured + 0.1).sqrt()) ** 2).sum()
    loss.backward()
    given = {name: p.detach().numpy() for name, p in model.named_parameters()}
    value, wanted = problem.loss_and_gradient(**given)
    assert loss.item() == pytest.approx(value, rel=1e-12)
    for name, parameter in model.named_parameters():
        assert np.abs(parameter.grad.numpy() - wanted[name]).max() <= 1e-12 * np.abs(wanted[name]).max(), name
        assert not parameter.grad[~torch.tensor(problem.mask)].any()


def test_values_are_live_and_backward_works_again():
    model = layer()
    first = model()
    first.sum().backward(retain_graph=True)
    first.sum().backward()
    once = model.B.grad.clone()
    model.zero_grad()
    model().sum().backward()
    assert torch.equal(once, 2 * model.B.grad)
    with torch.no_grad():
        model.B += 0.5
    assert not torch.equal(model(), first)


def test_a_network_may_stand_in_front():
    model = layer("angles")
    features = torch.nn.Linear(2, 1, dtype=torch.float64)
    A = features(torch.ones((*model.A.shape, 2), dtype=torch.float64))[..., 0]
    model(A=A).sum().backward()
    assert features.weight.grad.abs().sum() > 0 and model.A.grad is None and model.B.grad is not None


def test_several_layers_do_not_touch_each_other():
    a, b = layer(), layer(seed=2)
    alone = a()
    (a().sum() + b().sum()).backward()
    assert torch.equal(alone, a()) and not torch.equal(a.A.grad, b.A.grad)


def test_an_optimizer_finds_B():
    model = layer()
    data = model().detach()
    model.A.requires_grad_(False)
    model.axis.requires_grad_(False)
    with torch.no_grad():
        model.B += 0.3
    optimizer = torch.optim.LBFGS([model.B], line_search_fn="strong_wolfe", max_iter=60)

    def loss():
        optimizer.zero_grad()
        value = ((model() - data) ** 2).sum()
        value.backward()
        return value

    before = loss().item()
    optimizer.step(loss)
    assert loss().item() < 1e-4 * before


def test_float32_tensors_get_float64_gradients():
    single, double = layer(dtype=torch.float32), layer()
    for model in (single, double):
        model().log1p().sum().backward()
    assert single().dtype == torch.float32
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert a.grad.dtype == torch.float32
        assert (a.grad - b.grad).abs().max() <= 1e-5 * b.grad.abs().max()


def test_a_second_derivative_is_refused_in_words():
    model = layer()
    (first,) = torch.autograd.grad(model().log1p().sum(), [model.A], create_graph=True)
    with pytest.raises(RuntimeError, match="a second derivative"):
        torch.autograd.grad(first.sum(), [model.A], allow_unused=True)


def test_a_geometry_alone_has_no_absorption():
    from exactgrad.tomography.torch import UniaxialProjection

    problem = small_problem(1)
    bare = UniaxialProjection(problem.geometry, mask=problem.mask)
    with torch.no_grad():
        fields = dict(layer().named_parameters())
        through = torch.tensor(problem.data.transmission)[..., None]
        assert torch.allclose(bare(**fields) * through, layer()(), rtol=1e-14)


def test_what_is_wrong_is_refused_in_a_line():
    model = layer()
    with pytest.raises(InputError, match="chart = 'euler'"):
        layer("euler")
    with pytest.raises(InputError, match="'theta_op': no such field"):
        model(theta_op=model.A)
    with pytest.raises(InputError, match="A: shape"):
        model(A=model.A[0])
    with pytest.raises(InputError, match=r"B.* = nan"):
        model(B=model.B * torch.nan)
    with pytest.raises(InputError, match="cotangent"):
        model.problem.forward_and_pullback(**model.problem.fields(model.problem.start(0)))[1](np.ones(3))
