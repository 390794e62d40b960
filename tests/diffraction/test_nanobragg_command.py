"""The nanobragg command: the golden run's files byte for byte, and its manners."""

from pathlib import Path

import numpy as np
import pytest

from exactgrad.diffraction import nanobragg
from exactgrad.errors import InputError

GOLDEN = Path(__file__).parent.parent / "data" / "diffraction_files"
OPTIONS = """-default_F 100 -cell 100 100 100 90 90 90 -lambda 1 -distance 100 -detpixels 64 -pixel 0.8 -N 3
    -fluence 1e26 -seed 17 -oversample 2 -floatfile float.bin -noprogress --c-compat"""
COMMAND = OPTIONS.split()


def run(words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    return nanobragg.main(words)


def test_the_golden_run_is_reproduced_byte_for_byte(tmp_path, monkeypatch):
    assert run(COMMAND, tmp_path, monkeypatch) == 0
    assert (tmp_path / "intimage.img").read_bytes() == (GOLDEN / "intimage.img").read_bytes()
    assert (tmp_path / "noiseimage.img").read_bytes() == (GOLDEN / "noiseimage.img").read_bytes()
    assert (tmp_path / "image.pgm").read_bytes() == (GOLDEN / "image.pgm").read_bytes()
    golden = np.fromfile(GOLDEN / "floatimage.bin", "<f4")
    ours = np.fromfile(tmp_path / "float.bin", "<f4")
    assert np.abs(ours - golden).max() <= 1e-6 * golden.max()


def test_it_overwrites_its_files_and_the_last_option_counts(tmp_path, monkeypatch):
    (tmp_path / "float.bin").write_bytes(b"old")
    assert run([*COMMAND, "-detpixels", "32", "-nonoise", "-threads", "1"], tmp_path, monkeypatch) == 0
    assert (tmp_path / "float.bin").stat().st_size == 4 * 32 * 32
    assert not (tmp_path / "noiseimage.img").exists()


def test_the_image_does_not_depend_on_threads(tmp_path):
    one, two = (nanobragg.simulate([*COMMAND, "-threads", str(n)], tmp_path) for n in (1, 2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-threads", "0"], "-threads 0: a whole number"),
        (["-threads"], "-threads : a whole number"),
        (["-nosuch"], "-nosuch: no such option"),
        (["-lambda"], "-lambda: 1 argument needed, 0 given"),
        (["-lambda", "nan"], "-lambda nan: a finite number"),
        (["-hkl", "missing.hkl"], "missing.hkl: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(words, message, tmp_path, monkeypatch, capsys):
    good = [word for word in COMMAND if word != "--c-compat"]
    assert run([*good, *words], tmp_path, monkeypatch) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError):
        nanobragg.simulate([*good, *words], tmp_path)


def test_usage_and_version(capsys):
    assert nanobragg.main(["-version"]) == 0
    assert nanobragg.main([]) == 2
    assert "--c-compat" in capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError("8 TB"), OSError(28, "No space left on device")])
def test_what_the_machine_lacks_is_one_line_too(error, monkeypatch, capsys):
    def fail(words):
        raise error

    monkeypatch.setattr(nanobragg, "simulate", fail)
    assert nanobragg.main(COMMAND) == 2
    assert capsys.readouterr().err.count("\n") == 1
