"""Compilation: one formula source, an honest NaN, and a cache that sees every edit and every closed door."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import exactgrad
from exactgrad.kernels import compile as kernels
from exactgrad.rotations import scalar as rotation_formulas

PACKAGE = Path(exactgrad.__file__).parent


@pytest.fixture
def uncached():
    kernels.cache_folder.cache_clear()
    yield
    kernels.cache_folder.cache_clear()


def test_the_folder_can_be_chosen(uncached: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXACTGRAD_CACHE_DIR", str(tmp_path / "here"))
    folder = kernels.cache_folder()
    assert folder == tmp_path / "here" / f"kernels-{kernels.source_hash()}"
    assert folder.is_dir()


@pytest.mark.parametrize("variable", ["EXACTGRAD_CACHE_DIR", "XDG_CACHE_HOME"])
def test_it_falls_back_where_the_users_folder_cannot_be_written(
    variable: str, uncached: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, other = tmp_path / "file", tmp_path / "tmp"
    blocked.write_text("a file where a folder is needed")  # stops root too, unlike permissions
    other.mkdir()
    monkeypatch.delenv("EXACTGRAD_CACHE_DIR", raising=False)
    monkeypatch.setenv(variable, str(blocked))
    monkeypatch.setattr(kernels.tempfile, "gettempdir", lambda: str(other))
    folder = kernels.cache_folder()
    assert folder is not None
    assert folder.parent == other / f"exactgrad-{os.getuid()}"


def test_it_does_without_where_nothing_can_be_written(
    uncached: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("EXACTGRAD_CACHE_DIR", str(blocked))
    monkeypatch.setattr(kernels.tempfile, "gettempdir", lambda: str(blocked))
    with caplog.at_level(logging.WARNING, "exactgrad.kernels"):
        assert kernels.cache_folder() is None
    assert "compiled anew in every process" in caplog.text
    twice = kernels.compiled("float64(float64)")(lambda x: 2 * x)
    assert twice(1.5) == 3.0


def copied_hash(package: Path) -> str:
    code = "from exactgrad.kernels.compile import source_hash; print(source_hash())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_cache_key_follows_every_kernel_source(tmp_path: Path) -> None:
    package = tmp_path / "exactgrad"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    first = copied_hash(package)
    assert first == kernels.source_hash()
    seen = {first}
    for source in ("pulses/kernel.py", "rotations/scalar.py"):
        with (package / source).open("a") as handle:
            handle.write("\n# edited\n")
        seen.add(copied_hash(package))
    assert len(seen) == 3
    with (package / "pulses" / "problem.py").open("a") as handle:
        handle.write("\n# no kernel inlines this\n")
    assert copied_hash(package) in seen


def test_compiled_formulas_do_what_the_plain_ones_do() -> None:
    compiled = kernels.formulas(rotation_formulas)
    assert set(compiled) == {n for n, f in vars(rotation_formulas).items() if isinstance(f, types.FunctionType)}
    for x in (0.0, 0.3, 7.0, 400.0):
        assert np.allclose(
            compiled["even_coefficients"](x), rotation_formulas.even_coefficients(x), rtol=1e-14, atol=1e-17
        )
    assert isinstance(rotation_formulas.even_coefficients, types.FunctionType)  # the module itself is untouched


def test_nan_and_infinity_stay_what_they_are() -> None:
    ratio = kernels.scalar(lambda a, b: a / b)
    total = kernels.scalar(lambda a, b: a * b + b)
    assert np.isnan(ratio(0.0, 0.0))
    assert ratio(1.0, 0.0) == np.inf
    assert np.isnan(total(np.nan, 1.0))
    assert np.isnan(total(np.inf, 0.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_passes_through_the_sweeps(bad: float) -> None:
    """Reassociation may cancel a - a for a NaN; the real kernels must hand on every one that goes in."""
    from exactgrad.pulses.sweep import Sweep

    sweep = Sweep(np.array([0.0, 100.0]), np.ones(2))
    steps = np.full((4, 5), 1e-3)
    for row in range(4):
        wrong = steps.copy()
        wrong[row, 2] = bad
        assert np.isnan(sweep.turns(wrong)[:, 1]).any()
        assert np.isnan(sweep.gradient(wrong, np.ones((3, 2)))[:, :3]).any()
    m = np.array([[1.0, 1.0], [bad, 0.0], [0.0, 1.0]])
    assert not np.isfinite(sweep.gradient(steps, m)).all()
