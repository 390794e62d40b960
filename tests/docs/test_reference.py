"""Every public name is in the reference, and its docstring says what it must."""

import inspect

import pytest
from public_names import in_all, lacks, named_on_pages, public


def test_every_public_docstring_says_what_it_must():
    found = {path: missing for path, (item, of_class) in public().items() if (missing := lacks(item, of_class))}
    assert found == {}


def test_every_public_name_of_a_system_and_of_the_rotations_is_in_the_reference():
    pages = named_on_pages()
    modules = {item for item in pages.values() if inspect.ismodule(item)}
    rooms = ("exactgrad.pulses.", "exactgrad.diffraction.", "exactgrad.tomography.", "exactgrad.rotations.")
    for path, item in in_all().items():
        if path.startswith(rooms) and ".reference." not in path:  # other people's methods, for comparison
            assert item in pages.values() or inspect.getmodule(item) in modules, path


def bad(x, speed_hz):
    """Turn it."""
    if speed_hz < 0:
        raise InputError("speed_hz")  # noqa: F821
    return x


def good(x, speed_hz):
    """Return x turned at `speed_hz`; raises `InputError` if that is negative."""
    if speed_hz < 0:
        raise InputError("speed_hz")  # noqa: F821
    return x


bad.__annotations__ = good.__annotations__ = {"return": "np.ndarray"}


@pytest.mark.parametrize(("item", "missing"), [(bad, ["what is returned", "what is raised", "speed_hz"]), (good, [])])
def test_what_is_missing_is_seen(item, missing):
    assert lacks(item) == missing
