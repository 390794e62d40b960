"""What of the manual is not a page: the examples can be read, and the pictures can be drawn again."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
LARGEST_PICTURE = 60_000  # bytes


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("pulse_*.toml")), ids=lambda path: path.stem)
def test_a_pulse_example_is_a_problem(path):
    from exactgrad.pulses import PulseProblem

    problem = PulseProblem.from_job(path)
    assert problem.start(0).shape == (problem.size,)


def test_the_tomography_examples_are_jobs():
    from exactgrad.tomography import reconstruct_job, simulate
    from exactgrad.tomography.tables import read_job

    scan, _ = read_job(EXAMPLES / "tomography_scan.toml", simulate.Job)
    assert len(scan.scan.angles()) == 60
    read_job(EXAMPLES / "tomography_reconstruct.toml", reconstruct_job.Job)


def test_every_example_says_how_it_is_run():
    for path in EXAMPLES.glob("*.toml"):
        assert f"examples/{path.name}" in path.read_text(), path


def test_the_pictures_of_the_conventions_can_be_drawn_again(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "conventions.py", tmp_path], check=True)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
    assert all(path.stat().st_size < LARGEST_PICTURE for path in tmp_path.iterdir())
