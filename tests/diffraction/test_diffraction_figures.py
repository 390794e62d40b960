"""The figures show what they were given: scales, rings, windows; and refuse what is no image."""

from __future__ import annotations

import numpy as np
import pytest

from exactgrad.diffraction import figures
from exactgrad.diffraction.spots import Spots
from exactgrad.errors import InputError
from exactgrad.report.style import png_bytes


def spots(*positions):
    count = len(positions)
    at = np.array(positions, dtype=float).reshape(count, 2)
    ones = np.ones(count)
    hkl = np.arange(3 * count).reshape(count, 3)
    return Spots(hkl, at, at, at, ones, ones, ones, ones, np.arange(count, 0, -1.0))


@pytest.fixture
def picture():
    image = np.random.default_rng(1).poisson(3.0, (40, 60)).astype(float)
    image[10, 20], image[30, 50] = 5000.0, 900.0
    return image


def test_rings_lie_on_fast_and_slow(picture):
    fig = figures.image_plot(picture, spots((10, 20), (30, 50)), "ADU", "one")
    axes = fig.axes[0]
    (line,) = axes.lines
    np.testing.assert_array_equal(np.column_stack(line.get_data()), [[20, 10], [50, 30]])
    (drawn,) = axes.images
    assert drawn.get_extent() == [-0.5, 59.5, 39.5, -0.5]  # the first row on top, pixel centres whole numbers
    assert drawn.norm.vmax == 5000
    assert 0 < drawn.norm.vmin < 3
    assert axes.get_title(loc="right") == "rings: 2 predicted spots"
    assert png_bytes(fig).startswith(b"\x89PNG")


def test_zooms_are_around_spots_that_lie_apart(picture):
    fig = figures.spots_plot(picture, spots((10, 20), (11, 22), (30, 50)), half_px=6)
    assert [axes.get_title(loc="left") for axes in fig.axes] == ["0 1 2", "6 7 8"]
    assert fig.axes[0].get_xlim() == (14, 26)
    assert fig.axes[0].get_ylim() == (16, 4)
    assert fig.axes[0].images[0].get_clim() == (0, 5000)
    assert fig.axes[1].images[0].get_clim() == (0, 900)


def test_several_images_share_a_scale(picture):
    fig = figures.images_plot([picture, 0.1 * picture, picture], ["a", "b", "c"])
    assert [axes.get_title(loc="left") for axes in fig.axes] == ["a", "b", "c"]
    assert {axes.images[0].norm.vmax for axes in fig.axes} == {5000}


def test_a_spot_of_a_large_image_is_not_lost():
    image = np.ones((3001, 4003))
    image[2999, 4001] = 77.0
    (drawn,) = figures.image_plot(image).axes[0].images
    shown = drawn.get_array()
    assert max(shown.shape) <= figures.LARGEST_SIDE
    assert shown.max() == 77
    left, right, bottom, top = drawn.get_extent()
    assert left == top == -0.5
    assert right >= 4002.5
    assert bottom >= 3000.5


@pytest.mark.parametrize("image", [np.zeros((5, 6)), np.full((5, 6), 7.0), np.zeros((1, 1)), -np.ones((4, 4))])
def test_flat_and_empty_images_are_drawn(image):
    assert png_bytes(figures.image_plot(image)).startswith(b"\x89PNG")


def test_what_is_no_image_is_refused(picture):
    with pytest.raises(InputError, match="finite"):
        figures.image_plot([[np.nan, 1.0]])
    with pytest.raises(InputError, match="shape"):
        figures.image_plot(np.zeros(3))
    with pytest.raises(InputError, match="none is predicted"):
        figures.spots_plot(picture, spots())
    with pytest.raises(InputError, match="at least one"):
        figures.images_plot([], [])
