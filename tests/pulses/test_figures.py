"""The pulse figures draw the numbers they were given, with the axes named."""

import numpy as np
import pytest

from exactgrad.errors import InputError
from exactgrad.pulses import figures
from exactgrad.pulses.pulse import Pulse
from exactgrad.report.style import png_bytes


def random_pulse(steps=100, has_z=False, seed=1):
    rng = np.random.default_rng(seed)
    ux, uy, uz = rng.normal(size=(3, steps)) * 5e3
    return Pulse(rng.uniform(1e-6, 9e-6, steps), ux, uy, uz * has_z)


def labels(fig):
    return [axes.get_ylabel() for axes in fig.axes], fig.axes[-1].get_xlabel()


def line(axes, label):
    return next(found for found in axes.get_lines() if found.get_label() == label)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("has_z", [False, True])
def test_pulse_plot_draws_each_step_as_it_is(has_z):
    pulse = random_pulse(has_z=has_z)
    fig = figures.pulse_plot(pulse)
    names = ["amplitude (kHz)", "phase (deg)", "control (kHz)"] + ["uz (kHz)"] * has_z
    assert labels(fig) == (names, "time (µs)")
    edges = np.append(0.0, np.cumsum(pulse.step_s)) * 1e6
    drawn = [
        (fig.axes[0].get_lines()[0], np.hypot(pulse.ux_hz, pulse.uy_hz)),
        (line(fig.axes[2], "ux"), pulse.ux_hz),
        (line(fig.axes[2], "uy"), pulse.uy_hz),
    ]
    if has_z:
        drawn.append((fig.axes[3].get_lines()[0], pulse.uz_hz))
    for curve, values in drawn:
        assert curve.get_drawstyle() == "steps-post"
        np.testing.assert_allclose(curve.get_xdata(), edges, rtol=1e-13)
        np.testing.assert_allclose(curve.get_ydata()[:-1], values / 1e3, rtol=1e-13)
        assert curve.get_ydata()[-1] == curve.get_ydata()[-2]  # the last step ends at the end of the pulse
    assert legend(fig.axes[2]) == ["ux", "uy"]
    assert fig.axes[0].get_xlim() == (0.0, edges[-1])
    png_bytes(fig)


def test_phase_is_drawn_in_degrees_with_gaps_at_wraps_and_where_there_is_no_rf():
    pulse = Pulse.from_polar([1e-6] * 5, [1.0, 1.0, 1.0, 0.0, 1.0], np.radians([10.0, 350.0, 200.0, 77.0, 90.0]))
    times, degrees = figures.pulse_plot(pulse).axes[1].get_lines()[0].get_data()
    np.testing.assert_allclose(times.reshape(5, 3), [[i, i + 1, i + 1] for i in range(5)], rtol=1e-13)
    gap = np.nan
    expected = [[10, 10, gap], [350, 350, 350], [200, 200, gap], [gap] * 3, [90, 90, 90]]
    expected[2][2] = 200  # the gap to a step without rf is that step's own
    np.testing.assert_allclose(degrees.reshape(5, 3), expected, rtol=1e-12)


@pytest.mark.parametrize("amplitude", [0.0, 1e4])
def test_one_step_and_no_rf_can_be_drawn(amplitude):
    fig = figures.pulse_plot(Pulse.from_polar([2.5e-5], [amplitude], [0.0]))
    assert fig.axes[0].get_title(loc="left") == "1 step, 25 µs"
    png_bytes(fig)


def test_many_steps_are_drawn_in_a_few_seconds_worth_of_work():
    png_bytes(figures.pulse_plot(random_pulse(20_000)))


def quality_map(offsets=21, scales=5):
    offset = np.linspace(-2e4, 2e4, offsets)
    b1 = np.linspace(0.8, 1.2, scales)
    return offset, b1, 1.0 - 1e-4 * (1 + (offset[:, None] / 5e3) ** 4) * (1 + 200 * (b1 - 1) ** 2)


def test_offset_profile_draws_each_b1_and_its_distance_from_one():
    offset, b1, quality = quality_map()
    fig = figures.offset_profile(offset, quality, b1)
    assert labels(fig) == (["quality", "1 − quality"], "offset (kHz)")
    assert fig.axes[1].get_yscale() == "log"
    assert legend(fig.axes[0]) == ["0.8 B1", "0.9 B1", "1 B1", "1.1 B1", "1.2 B1"]
    for column in range(b1.size):
        for axes, values in ((fig.axes[0], quality), (fig.axes[1], 1 - quality)):
            curve = axes.get_lines()[column]
            np.testing.assert_allclose(curve.get_xdata(), offset / 1e3)
            np.testing.assert_allclose(curve.get_ydata(), values[:, column], rtol=1e-12)
    png_bytes(fig)


def test_offset_profile_takes_a_mapping_and_any_order():
    offset, b1, quality = quality_map()
    plain = figures.offset_profile(offset, quality, b1)
    turn = np.random.default_rng(0).permutation(offset.size)
    mapped = figures.offset_profile(offset[turn], {b1[k]: quality[turn, k] for k in (3, 0, 4, 1, 2)})
    for first, second in zip(plain.axes, mapped.axes, strict=True):
        for a, b in zip(first.get_lines(), second.get_lines(), strict=True):
            np.testing.assert_array_equal(a.get_xydata(), b.get_xydata())
    assert legend(plain.axes[0]) == legend(mapped.axes[0])


def test_offset_profile_marks_training_and_shows_components():
    offset, _, quality = quality_map()
    mx = np.sin(offset)
    training = np.linspace(-1e4, 1e4, 11)
    fig = figures.offset_profile(offset, quality[:, 2], 1.0, training, {"Mx": mx, "Mz": np.cos(offset)})
    assert labels(fig) == (["quality", "1 − quality", "component"], "offset (kHz)")
    np.testing.assert_array_equal(line(fig.axes[2], "Mx").get_ydata(), mx)
    np.testing.assert_allclose(line(fig.axes[1], "training offsets").get_xdata(), training / 1e3)
    assert fig.axes[0].get_legend() is None  # one curve needs no key
    png_bytes(fig)


def test_spins_of_which_nothing_is_asked_are_gaps():
    offset, scale, quality = quality_map()
    quality[5:9] = np.nan
    fig = figures.offset_profile(offset, quality, scale)
    gap = np.isnan(fig.axes[1].get_lines()[0].get_ydata())
    assert gap.sum() == 4
    png_bytes(fig)
    mesh = figures.offset_b1_map(offset, scale, quality)
    assert np.ma.getmaskarray(mesh.axes[0].collections[0].get_array()).sum() == 4 * scale.size
    png_bytes(mesh)


def test_many_b1_get_a_colour_bar():
    fig = figures.offset_profile(*(quality_map(scales=20)[i] for i in (0, 2, 1)))
    assert fig.axes[0].get_legend() is None and fig.axes[-1].get_ylabel() == "B1 / nominal"
    png_bytes(fig)


def test_perfect_quality_is_drawn_at_rounding():
    fig = figures.offset_profile([-1.0, 0.0, 1.0], [1.0, 1.0 + 1e-15, 0.5])
    np.testing.assert_array_equal(fig.axes[1].get_lines()[0].get_ydata(), [1e-16, 1e-16, 0.5])
    png_bytes(fig)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.offset_profile([0.0, 1.0], [0.5, np.inf]), "inf"),
        (lambda: figures.offset_profile([0.0, 1.0], [np.nan, np.nan]), "nan"),
        (lambda: figures.offset_profile([0.0, 1.0], [0.5]), "shape"),
        (lambda: figures.offset_profile([0.0, 1.0], np.ones((2, 3)), [1.0]), "shape"),
        (lambda: figures.offset_profile([0.0, 1.0], [1.0, 1.0], components={"Mx": [1.0]}), "Mx"),
        (lambda: figures.offset_b1_map([0.0, 1.0], [1.0], [[1.0], [1.0]]), "two or more"),
        (lambda: figures.offset_b1_map([0.0, 1.0], [1.0, 1.1], np.ones((3, 2))), "shape"),
        (lambda: figures.convergence([]), "no start"),
        (lambda: figures.convergence([[]]), "no start"),
        (lambda: figures.convergence([[0.1, np.inf]]), "inf"),
        (lambda: figures.trajectory([[0.0, 1.0]]), "shape"),
        (lambda: figures.trajectory(np.zeros((2, 4, 3)), ["one"]), "labels"),
    ],
)
def test_wrong_input_is_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_map_draws_offset_across_and_b1_up():
    offset, b1, quality = quality_map()
    quality = 1.0 - (1.0 - quality) / 3.0
    fig = figures.offset_b1_map(offset[::-1], b1, quality[::-1])
    assert (fig.axes[0].get_xlabel(), fig.axes[0].get_ylabel()) == ("offset (kHz)", "B1 / nominal")
    assert fig.axes[1].get_ylabel() == "1 − quality"
    mesh = fig.axes[0].collections[0]
    np.testing.assert_allclose(mesh.get_array(), (1 - quality).T, rtol=1e-12)
    np.testing.assert_allclose(mesh.get_coordinates()[0, [0, -1], 0], [-21.0, 21.0])  # cells are centred on the points
    lines = fig.axes[0].collections[1]
    np.testing.assert_array_equal(lines.levels, [0.99, 0.999])  # 0.9 is nowhere
    inside = [path.vertices for path in lines.get_paths() if len(path.vertices)]
    assert all(np.abs(points[:, 0]).max() <= 20.0 and points[:, 1].min() >= 0.8 for points in inside)
    png_bytes(fig)


@pytest.mark.parametrize("quality", [np.ones((3, 2)), np.zeros((3, 2)), np.full((3, 2), 0.999)])
def test_flat_maps_can_be_drawn(quality):
    png_bytes(figures.offset_b1_map([-1.0, 0.0, 1.0], [0.9, 1.1], quality))


def test_convergence_draws_every_start_and_names_the_best():
    histories = [[0.5, 0.1, 0.02], [0.6, 0.01], [], [0.4, 0.3, 0.2, 0.0]]
    fig = figures.convergence(histories)
    axes = fig.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("iteration", "1 − quality", "log")
    best = axes.get_lines()[-1]
    assert best.get_label() == "best: start 4 of 4, 0"
    np.testing.assert_array_equal(best.get_xdata(), range(4))
    np.testing.assert_array_equal(best.get_ydata(), [0.4, 0.3, 0.2, 1e-16])
    others = [curve.get_ydata().tolist() for curve in axes.get_lines()[:-1]]
    assert others == [[0.5, 0.1, 0.02], [0.6, 0.01]]
    png_bytes(fig)


def test_convergence_of_one_entry_can_be_drawn():
    png_bytes(figures.convergence([[0.5]]))


def test_trajectory_draws_paths_with_their_ends():
    turn = np.linspace(0.0, np.pi / 2, 20)
    paths = np.stack(
        [
            np.column_stack([np.sin(turn), 0 * turn, np.cos(turn)]),
            np.column_stack([0 * turn, np.sin(turn), np.cos(turn)]),
        ]
    )
    fig = figures.trajectory(paths, ["a", "b"])
    axes = fig.axes[0]
    assert axes.name == "3d" and legend(axes) == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["x", "y", "z"]
    for label, path in zip("ab", paths, strict=True):
        np.testing.assert_array_equal(np.transpose(line(axes, label).get_data_3d()), path)
    ends = [np.ravel(curve.get_data_3d()) for curve in axes.get_lines() if curve.get_marker() == "o"]
    np.testing.assert_array_equal(ends, [paths[0, 0], paths[0, -1], paths[1, 0], paths[1, -1]])
    png_bytes(fig)


def test_trajectories_of_many_spins_and_of_one_can_be_drawn():
    rng = np.random.default_rng(0)
    png_bytes(figures.trajectory(rng.normal(size=(12, 5, 3))))
    png_bytes(figures.trajectory(rng.normal(size=(5, 3))))
