"""The package as others get it: sdist and wheel, installed into a clean environment elsewhere, and used there.

Takes minutes and the network, so it is run by `make package-test` only.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import exactgrad

pytestmark = pytest.mark.package
ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 1_000_000
NANOBRAGG = "-cell 70 80 90 90 90 90 -N 5 -default_F 100 -detpixels 32 -pixel 1 -oversample 1"


def run(*command, cwd, environment=None):
    """Run a command; return what it printed, stdout and stderr."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def python(place):
    """Return the interpreter of a new environment that holds what the build needs."""
    run(sys.executable, "-m", "venv", place / "venv", cwd=place)
    program = place / "venv" / "bin" / "python"
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    run(program, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements, cwd=place)
    return program


@pytest.fixture(scope="module")
def sdist(place, python):
    """Return the sdist, built from a copy of what git tracks, or would."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    copy = place / "source"
    for name in listing.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    build = "import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])"
    run(python, "-c", build, place / "dist", cwd=copy)
    return next((place / "dist").glob("exactgrad-*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(place, python, sdist):
    """Return the wheel, built from the sdist: nothing else is needed for it."""
    options = ("-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    run(python, "-m", "pip", "wheel", *options, "-w", place / "wheels", sdist, cwd=place)
    return next((place / "wheels").glob("exactgrad-*.whl"))


@pytest.fixture(scope="module")
def scripts(place, python, wheel):
    """Return the folder of the programs, the wheel and its dependencies installed, no extra."""
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=place)
    return python.parent


def test_the_sdist_holds_what_the_tests_need_and_nothing_large(sdist):
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2]: item.size for item in archive if (name := item.name) and item.isfile()}
    assert max(members.values()) <= MOST_BYTES
    assert sum(members.values()) < 20 * MOST_BYTES
    sources = ("src/exactgrad", "tests", "docs", "benchmarks", "examples")
    here = {
        str(path.relative_to(ROOT))
        for folder in sources
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".pyc", ".pyo")
    }
    assert here - members.keys() == set()
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "mkdocs.yml"} <= members.keys()
    assert not [name for name in members if "__pycache__" in name or name.startswith((".venv", "site/"))]


def test_the_wheel_holds_the_package_and_its_data_only(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "exactgrad"
    kinds = (".py", ".css", ".js", ".toml", ".csv", ".typed")
    here = {f"exactgrad/{path.relative_to(package)}" for path in package.rglob("*") if path.suffix in kinds}
    assert here <= names and "exactgrad/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"exactgrad", f"exactgrad-{exactgrad.__version__}.dist-info"}


def test_it_is_this_version_and_is_imported_from_there(scripts, place):
    told = run(scripts / "exactgrad", "--version", cwd=place)
    assert told.startswith(f"exactgrad {exactgrad.__version__}\n")
    where = run(scripts / "python", "-c", "import exactgrad; print(exactgrad.__file__)", cwd=place)
    assert Path(where.strip()).is_relative_to(place)


@pytest.mark.parametrize("system", ["rotations", "pulses"])
def test_it_verifies_itself(scripts, place, system):
    cases = [] if system == "rotations" else ["--cases", "2"]
    line = run(scripts / "exactgrad", "verify", system, *cases, "--json", cwd=place).splitlines()
    summary = json.loads(next(text for text in line if text.startswith("{")))
    assert summary["status"] == "ok"


def test_nanobragg_writes_the_c_programs_files(scripts, place):
    folder = place / "image"
    folder.mkdir()
    run(scripts / "nanobragg", *NANOBRAGG.split(), cwd=folder)
    assert {"floatimage.bin", "intimage.img", "noiseimage.img", "image.pgm"} <= {path.name for path in folder.iterdir()}
    assert (folder / "floatimage.bin").stat().st_size == 32 * 32 * 4


TORCH = "import exactgrad.{}.torch"
PULSEQ = (
    "from pathlib import Path; from exactgrad.pulses import Pulse, write_shape;"
    "write_shape(Path('p.seq'), Pulse([1e-6] * 4, [1e3] * 4, [0.0] * 4, [0.0] * 4), 'pulseq', title='four steps')"
)


@pytest.mark.parametrize(
    ("extra", "program"),
    [("torch", TORCH.format("diffraction")), ("torch", TORCH.format("tomography")), ("pulseq", PULSEQ)],
)  # of `eiger` the same is tested in tests/diffraction/formats: it needs a packed file
def test_a_missing_extra_is_named(scripts, place, extra, program):
    done = subprocess.run([scripts / "python", "-c", program], cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode and f"exactgrad[{extra}]" in done.stderr.splitlines()[-1], done.stderr


def test_the_small_extras_work_together(scripts, place, wheel):
    options = ("-q", "--disable-pip-version-check")
    run(scripts / "python", "-m", "pip", "install", *options, f"{wheel}[pulseq,eiger]", cwd=place)
    run(scripts / "python", "-c", PULSEQ, cwd=place)
    assert (place / "p.seq").stat().st_size > 0
    told = run(scripts / "exactgrad", "--version", cwd=place)
    assert "torch not installed" in told and "hdf5plugin not installed" not in told


GRADIENT = """
import torch
from exactgrad.diffraction import Simulator
from exactgrad.diffraction.torch import DiffractionImage
words = "-cell 50 60 70 90 90 90 -N 3 -default_F 9 -detpixels 4 -pixel 4 -oversample 1 -misset 1 2 3"
module = DiffractionImage(Simulator.from_nanobragg(words), free=["cell_a"])
module().sum().backward()
gradient = module.cell_a.grad.item()
assert gradient != 0.0 and gradient == gradient
"""


def test_all_extras_work_together(scripts, place, wheel):
    options = ("-q", "--disable-pip-version-check")
    run(scripts / "python", "-m", "pip", "install", *options, f"{wheel}[pulseq,eiger,torch]", cwd=place)
    run(scripts / "python", "-c", GRADIENT, cwd=place)
    assert "not installed" not in run(scripts / "exactgrad", "--version", cwd=place)
