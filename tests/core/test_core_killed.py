"""Runs of tomography and of refinement that are killed, or run out of disk: what is there is whole, and they go on.

A reconstruction and a refinement are killed at their first and at later checkpoints, between two of them, and at random
moments; each is then carried on and must come to the bits of a run that nothing disturbed. (The pulses' own tests kill
a design at every single write.)
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exactgrad.diffraction.simulate import simulate as simulate_images
from exactgrad.files import read_hdf5
from exactgrad.tomography.simulate import simulate as simulate_scan

SCAN = {
    "phantom": {"name": "fibres", "shape": [8, 8, 8], "seed": 2},
    "scan": {"projections": 12, "segments": 4},
    "measure": {"scale": 100.0},
}
RECONSTRUCT = """
[regularisation]
weight = 1e-3
[solve]
path_iterations = 4
max_iterations = 6
[basin]
rounds = 0
[quality]
samples = 0
split_half = false
[output]
figures = false
"""
SCENE = """
[crystal]
cell = [25.0, 31.0, 36.0, 90.0, 97.0, 90.0]
misset = [10.0, 20.0, 30.0]
N = 8
mosaic = 0.3
mosaic_domains = 2
default_F = 150.0
[beam]
lambda = 1.2
fluence = 5e27
[detector]
distance = 60.0
pixel = 0.5
detpixels = 90
oversample = 1
"""
RECORDED = (
    '[background]\nflat = 2.0\n[noise]\nseed = 1\n[output]\nformats = ["npy"]\nexpected = false\nfigures = false\n'
)
REFINE = '[refine]\ndata = ["image.npy"]\nfree = ["orientation", "scale"]\nmax_iterations = 6\nfigures = false\n'

# Children of one process that has loaded everything, so that a kill comes in the work and not in the imports. A
# checkpoint is written after every iteration. Arguments: what is done, the words of the command, a folder.
CHILDREN = """
import json, os, random, resource, signal, sys, time
from pathlib import Path
from exactgrad.cli.main import main
from exactgrad.core import checkpoint, solve
from exactgrad.diffraction.refinement import search
kind, words, base = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
search.SAVE_EVERY_S = 0.0
*others, _ = solve.Budget.__init__.__defaults__
solve.Budget.__init__.__defaults__ = (*others, 0.0)
save = checkpoint.save

def child(work):
    number = os.fork()
    if number:
        return number
    code = 99
    try:
        code = work()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)

def ended(number):
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])

def begin(folder):
    resumes = (folder / "run.json").exists()
    return main(["resume", str(folder), "--json"] if resumes else [*words, "--out", str(folder), "--json"])

def at_save(number, act, before):
    left = [number]
    def saving(*given):
        left[0] -= 1
        if left[0] == 0 and before:
            act()
        save(*given)
        if left[0] == 0 and not before:
            act()
    checkpoint.save = saving

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def killed(folder, number, before):
    def work():
        at_save(number, die, before)
        return begin(folder)
    assert ended(child(work)) == -signal.SIGKILL
    assert not (folder / "summary.json").exists()

def full(folder, number):
    def work():
        at_save(number, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)), True)
        return begin(folder)
    return ended(child(work))

main([*words, "--out", str(base / "warm"), "--threads", "1", "--json"])
began = time.monotonic()
codes = {ended(child(lambda: begin(base / "whole")))}
span = time.monotonic() - began
if kind == "kill":
    moments_of = {"first": [(1, False)], "between": [(2, True)], "again": [(2, False), (1, False), (3, True)]}
    for name, moments in moments_of.items():
        for moment in moments:
            killed(base / name, *moment)
        codes.add(ended(child(lambda: begin(base / name))))
    rng = random.Random(20261121)
    for name in ("random1", "random2"):
        number = child(lambda: begin(base / name))
        time.sleep(rng.uniform(0.0, span))
        os.kill(number, signal.SIGKILL)
        if ended(number) == -signal.SIGKILL:
            codes.add(ended(child(lambda: begin(base / name))))
else:
    for name, number in {"first": 1, "later": 3}.items():
        assert full(base / name, number) == 2
        print(json.dumps({name: sorted(os.listdir(base / name))}), file=sys.stderr)
        codes.add(ended(child(lambda: begin(base / name))))
print("codes", sorted(codes))
"""


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """The words of a reconstruction and of a refinement, both of which end by their budget or converged."""
    home = tmp_path_factory.mktemp("home")
    simulate_scan(SCAN, home / "scan.h5")
    (home / "how.toml").write_text(RECONSTRUCT)
    (home / "scene.toml").write_text(SCENE + RECORDED)
    simulate_images(home / "scene.toml", home / "recorded")
    next((home / "recorded").glob("*.npy")).rename(home / "image.npy")
    (home / "refine.toml").write_text(SCENE.replace("20.0, 30.0", "20.1, 30.05") + REFINE)
    return {
        "reconstruct": ["tomography", "reconstruct", str(home / "scan.h5"), "--job", str(home / "how.toml")],
        "refine": ["diffraction", "refine", str(home / "refine.toml")],
    }


def children(kind: str, words: list[str], folder: Path) -> str:
    """Run the children; all of them must end as the undisturbed run did. Return what was written to stderr."""
    call = [sys.executable, "-c", CHILDREN, kind, json.dumps(words), str(folder)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] in ("codes [0]", "codes [3]"), done.stdout + done.stderr
    return done.stderr


def content(folder: Path) -> dict[str, bytes]:
    """All that a run came to, less its times."""
    summary = json.loads((folder / "summary.json").read_text())
    arrays, _ = read_hdf5(folder / "result.h5")
    loss = np.float64(summary["loss"]).tobytes()
    return {name: np.asarray(values).tobytes() for name, values in arrays.items()} | {"loss": loss}


@pytest.mark.parametrize("command", ["reconstruct", "refine"])
def test_killed_runs_come_to_the_bits_of_an_undisturbed_one(cases, tmp_path, command):
    children("kill", cases[command], tmp_path)
    whole = content(tmp_path / "whole")
    for name in ("first", "between", "again", "random1", "random2"):
        assert content(tmp_path / name) == whole, name
        left = [path.name for path in (tmp_path / name).iterdir() if ".tmp-" in path.name]
        assert len(left) <= 3  # at most what the killed processes themselves had open


@pytest.mark.parametrize("command", ["reconstruct", "refine"])
def test_a_full_disk_is_one_line_and_the_checkpoint_before_it_serves(cases, tmp_path, command):
    err = children("full", cases[command], tmp_path)
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(told) == 2 and all("cannot be written: File too large" in line for line in told), err
    assert "Traceback" not in err
    listed = {}
    for line in err.splitlines():
        if line.startswith("{"):
            listed |= json.loads(line)
    assert not [name for names in listed.values() for name in names if ".tmp-" in name or name == "summary.json"]
    assert "checkpoint.h5.1" in listed["later"]
    whole = content(tmp_path / "whole")
    assert content(tmp_path / "first") == whole and content(tmp_path / "later") == whole
