"""Store golden images of the C program compactly, one .npz a case: image, command line, input files.

    python tests/data/copy_golden.py FOLDER            cases.json, grads.json; in folders cmd.txt, image.npy, inputs
    python tests/data/copy_golden.py --run NANOBRAGG   run the program itself on the command lines of more.txt

Images are rounded to 2^-23 of the power of two below their maximum, six parts in 1e8, which halves what deflate leaves.
"""

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
OUT = HERE / "golden_diffraction"
OWN = {"cmd.txt", "image.npy", "log.txt", "image.pgm", "intimage.img", "noiseimage.img"}


def rounded(image: np.ndarray) -> np.ndarray:
    """Return float32 values with the digits left out that lie below 2^-23 of the largest."""
    step = 2.0 ** (np.floor(np.log2(float(image.max()))) - 23)
    return (np.rint(image.astype(np.float64) / step) * step).astype(np.float32)


def store(path: Path, image: np.ndarray, command: str, inputs: list[Path]) -> None:
    """Write one case."""
    files = {f"file {source.name}": np.frombuffer(source.read_bytes(), np.uint8) for source in inputs}
    np.savez_compressed(path, image=rounded(image), command=np.array(command.strip()), **files)


def copy(folder: Path) -> None:
    """Copy every case of a folder, and its reference gradients."""
    for case in json.loads((folder / "cases.json").read_text())["cases"]:
        source = folder / case["name"]
        inputs = [source / name for name in case["inputs"] if name not in OWN]
        command = (source / "cmd.txt").read_text()
        store(OUT / f"{case['name']}.npz", np.load(source / "image.npy"), command, inputs)
    shutil.copy(folder / "grads.json", OUT / "grads.json")


def run(program: Path) -> None:
    """Run the program on every line of more.txt, ``name: options``; words ending in a known file are inputs."""
    inputs = {path.name: path for path in (OUT / "inputs").iterdir()}
    for line in (OUT / "more.txt").read_text().splitlines():
        name, _, options = line.partition(":")
        if not options or name.startswith("#"):
            continue
        words = shlex.split(options)
        with tempfile.TemporaryDirectory() as folder:
            needed = [inputs[word] for word in words if word in inputs]
            for source in needed:
                shutil.copy(source, folder)
            quiet = ["-floatfile", "float.bin", "-noprogress", "-nonoise", "-nopgm"]
            done = subprocess.run([program.resolve(), *words, *quiet], cwd=folder, capture_output=True, check=True)
            size = next(row for row in done.stdout.decode().splitlines() if "pixels)" in row and "distance=" in row)
            fast, slow = (int(n) for n in size.rsplit("(", 1)[1].split(" ")[0].split("x"))
            image = np.fromfile(Path(folder) / "float.bin", np.float32).reshape(slow, fast)
            store(OUT / "more" / f"{name}.npz", image, f"nanoBragg {options.strip()}", needed)


if __name__ == "__main__":
    if sys.argv[1] == "--run":
        run(Path(sys.argv[2]))
    else:
        copy(Path(sys.argv[1]))
