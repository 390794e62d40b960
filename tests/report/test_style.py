"""The figures' style: no global state touched, PNG that is whole and reproducible, colours that can be told apart."""

import base64
import subprocess
import sys

import matplotlib as mpl
import pytest

from exactgrad.errors import InputError
from exactgrad.report import style
from exactgrad.report.page import png_size


def drawn():
    fig = style.figure(4.0, 3.0)
    fig.subplots().plot([0, 1], [1, 0])
    return fig


def test_importing_loads_no_matplotlib_and_drawing_no_pyplot():
    code = (
        "import sys, exactgrad.report.style as s, exactgrad.pulses.figures, exactgrad.report.page; "
        "assert 'matplotlib' not in sys.modules; s.png_bytes(s.figure()); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def strange_settings():
    with mpl.rc_context({"lines.linewidth": 9.5, "axes.grid": False, "font.size": 31.0}):
        yield dict(mpl.rcParams)


def test_settings_are_put_back(strange_settings):
    style.png_bytes(drawn())
    assert dict(mpl.rcParams) == strange_settings


def test_settings_are_put_back_after_an_error(strange_settings):
    @style.styled
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert dict(mpl.rcParams) == strange_settings


def test_png_has_the_size_asked_for_and_the_same_bytes_twice():
    first, second = style.png_bytes(drawn()), style.png_bytes(drawn())
    assert png_size(first) == (4 * style.DOTS_PER_INCH, 3 * style.DOTS_PER_INCH)
    assert first == second and b"Software" not in first


def test_saved_whole_and_not_over_another(tmp_path):
    path = tmp_path / "a.png"
    style.save_png(drawn(), path)
    assert path.read_bytes() == style.png_bytes(drawn())
    with pytest.raises(InputError, match="exists already"):
        style.save_png(drawn(), path)
    style.save_png(drawn(), path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_data_uri_is_the_png():
    head, _, body = style.to_data_uri(drawn()).partition(",")
    assert head == "data:image/png;base64" and base64.b64decode(body, validate=True) == style.png_bytes(drawn())


def luminance(color):
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(color)]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


@pytest.mark.parametrize("color", [*style.PALETTE, *style.sequential_colors(7), *style.sequential_colors(1)])
def test_lines_stand_out_from_white(color):
    assert 1.05 / (luminance(color) + 0.05) > 1.5


def test_text_reads_on_white():
    assert 1.05 / (luminance(style.INK) + 0.05) > 7 and 1.05 / (luminance(style.MUTED) + 0.05) > 4.5


def test_sequential_colours_are_ordered_from_dark_to_light():
    light = [luminance(color) for color in style.sequential_colors(9)]
    assert light == sorted(light)


def test_colormaps_exist():
    assert {style.SEQUENTIAL, f"{style.SEQUENTIAL}_r", style.DIVERGING} <= set(mpl.colormaps)
