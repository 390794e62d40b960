"""The PyTorch front end: gradcheck, live values, second backward, several models, dtypes, what is refused."""

import subprocess
import sys

import numpy as np
import pytest

from exactgrad.diffraction import Simulator
from exactgrad.errors import InputError

torch = pytest.importorskip("torch", reason="PyTorch is an extra; the test extras install it where pip has it")
WORDS = (
    "-default_F 100 -cell 70 80 90 90 100 90 -misset 5 3 2 -lambda 1.5 -distance 100 -fluence 1e28 -polar 0.5 "
    "-detpixels 12 -pixel 4 -N 5 -oversample 1 -mosaic 0.8 -mosaic_dom 3"
)
NAMES = ["mosaic_spread_rad", "cell_a", "cell_beta", "misset_rot_x", "distance_mm", "lambda_A", "polar", "N"]


def module(names=NAMES, words=WORDS, **options):
    from exactgrad.diffraction.torch import DiffractionImage

    return DiffractionImage(Simulator.from_nanobragg(words), free=names, **options)


def test_gradcheck():
    model = module()
    from exactgrad.core.torch import call

    inputs = [p.detach().clone().requires_grad_() for p in model.parameters()]

    def scaled(*tensors):  # so that one step suits all
        return call(model._evaluate, *(start * (1 + t) for start, t in zip(inputs, tensors, strict=True))).log1p().sum()

    zeros = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in inputs]
    assert torch.autograd.gradcheck(scaled, zeros, eps=1e-6, atol=1e-4, rtol=1e-5)


def test_the_gradient_is_the_simulators():
    model = module()
    image = model()
    weight = torch.linspace(-1, 1, image.numel(), dtype=torch.float64).reshape(image.shape)
    (weight * image).sum().backward()
    wanted = Simulator.from_nanobragg(WORDS).image_and_pullback(NAMES)[1](weight.numpy())
    for name, parameter in model.named_parameters():
        assert parameter.grad.item() == pytest.approx(wanted[name], rel=1e-14)


def test_values_are_live_and_backward_works_again():
    model = module(["cell_a", "fluence"])
    first = model()
    first.sum().backward(retain_graph=True)
    first.sum().backward()
    once = model.cell_a.grad.clone()
    model.zero_grad()
    model().sum().backward()
    assert torch.equal(once, 2 * model.cell_a.grad)
    with torch.no_grad():
        model.cell_a += 0.5
    assert not torch.equal(model(), first)
    model.sim.update(distance=110.0)
    assert model.sim.with_values(cell_a=70.5).image() == pytest.approx(model().detach().numpy())


def test_several_models_do_not_touch_each_other():
    a, b = module(["cell_a"]), module(["cell_a"])
    with torch.no_grad():
        b.cell_a += 1.0
    image = a()
    (image.sum() + b().sum()).backward()
    assert torch.equal(image, module(["cell_a"])()) and a.cell_a.grad != b.cell_a.grad


def test_an_optimizer_finds_a_cell_edge():
    model = module(["cell_a"])
    data = model().detach()
    with torch.no_grad():
        model.cell_a += 0.05
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=30)

    def loss():
        optimizer.zero_grad()
        value = ((model().sqrt() - data.sqrt()) ** 2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert model.cell_a.item() == pytest.approx(70.0, abs=1e-5)


def test_float32_tensors_get_float64_gradients():
    single, double = module(dtype=torch.float32), module()
    for model in (single, double):
        model().log1p().sum().backward()
    assert single().dtype == torch.float32
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert a.grad.dtype == torch.float32 and a.grad.item() == pytest.approx(b.grad.item(), rel=1e-4)


def test_arrays_are_parameters_too(tmp_path):
    (tmp_path / "list.hkl").write_text("".join(f"{h} {k} {l} {10 + h + k}\n" for h, k, l in np.ndindex(4, 4, 4)))
    words = WORDS.replace("-default_F 100", f"-hkl {tmp_path / 'list.hkl'}")
    model = module(["F"], words)
    model().sum().backward()
    assert model.F.grad.shape == model.F.shape and model.F.grad.abs().sum() > 0


def test_a_second_derivative_is_refused_in_words():
    model = module(["cell_a"])
    (first,) = torch.autograd.grad(model().log1p().sum(), [model.cell_a], create_graph=True)
    with pytest.raises(RuntimeError, match="a second derivative"):
        torch.autograd.grad(first, [model.cell_a], allow_unused=True)


def test_what_has_no_derivative_is_refused_at_once():
    with pytest.raises(InputError, match="no such parameter"):
        module(["cell_length"])
    with pytest.raises(InputError, match="tophat"):
        module(["cell_a"], WORDS + " -tophat_spots")
    with pytest.raises(InputError, match="at least one"):
        module([])


def test_without_torch_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from exactgrad.errors import BackendMissing\n"
        "try:\n    import exactgrad.core.torch\n"
        "except BackendMissing as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'exactgrad[torch]'" in done.stdout
