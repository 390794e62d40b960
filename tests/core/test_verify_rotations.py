"""`exactgrad verify rotations`: every row passes, every planted bug is caught, and a real one would be."""

import pytest

from exactgrad.cli.main import main
from exactgrad.core import verify_rotations
from exactgrad.rotations import maps


@pytest.mark.parametrize("seed", range(3))
def test_everything_passes(seed):
    checks = verify_rotations.checks(50, seed)
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]
    assert sum(check.planted for check in checks) == 5


def test_a_wrong_coefficient_fails(monkeypatch):
    right = maps.even_coefficients
    monkeypatch.setattr(maps, "even_coefficients", lambda x: (*right(x)[:2], right(x)[2] * (1 + 1e-9)))
    assert not all(check.passed for check in verify_rotations.checks(20, 0) if not check.planted)


def test_the_command(capsys):
    assert main(["verify", "rotations", "--cases", "5", "--json"]) == 0
    assert '"system": "rotations"' in capsys.readouterr().out
