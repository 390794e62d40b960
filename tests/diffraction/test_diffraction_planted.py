"""Planted bugs are caught for what they are: the same checkers pass the code that is not altered."""

import numpy as np
import pytest

from exactgrad.core.verify import worst
from exactgrad.diffraction import derivative, numbers, planted, verification
from exactgrad.diffraction.configurations import Configuration

SCENES = {
    "square": planted._stated(planted.WORDS),
    "gauss": planted._stated(f"{planted.WORDS} -gauss_xtal"),
    "round": planted._stated(f"{planted.WORDS} -round_xtal"),
    "interpolated": planted._with_table(planted._stated(planted.WORDS), interpolate=True),
    "anisotropic": planted._anisotropic(planted._stated(planted.WORDS)),
}


@pytest.mark.parametrize("name", SCENES)
def test_nothing_planted_nothing_caught(name):
    one = Configuration(name, SCENES[name])
    assert verification.check_image(one, lambda scene: planted._altered_image(scene, lambda n, _: n)).passed
    rows = list(verification.check_derivatives(one))
    assert worst(rows).passed and len(rows) > 30
    assert verification.check_transpose(one).passed


def test_the_kernels_numbers_make_the_image():
    scene = SCENES["square"].scene()
    from exactgrad.diffraction import render

    found = planted.image_of(scene, numbers.numbers_of(scene, scene.per_sample))
    np.testing.assert_allclose(found, render.image(scene), rtol=1e-14)


def test_every_bug_is_caught_by_its_own_reference():
    found = planted.planted_bugs()
    assert all(check.passed and check.planted for check in found), [c for c in found if not c.passed]
    references = {check.reference for check in found}
    assert len(references) == 4  # equation sheet, complex step, dot test, bits
    assert len(found) >= 40


def test_a_sum_by_threads_is_caught_for_one_bit():
    def one_bit(scene, weight, threads=None, with_table=False):
        image, bars = derivative.pull(scene, weight, threads, with_table)
        if threads and threads > 1:
            image.flat[7] = np.nextafter(image.flat[7], np.inf)
        return image, bars

    assert not verification.thread_check(one_bit).passed
    assert verification.thread_check().passed
