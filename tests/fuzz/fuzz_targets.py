"""What is fuzzed: every reader of diffraction files, and small files to begin with."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from exactgrad.diffraction.formats import (
    cbf,
    cif,
    coordinates,
    crystfel,
    dials,
    fdump,
    hkl,
    mask,
    mtz,
    nexus,
    npy,
    pgm,
    raw_float,
    smv,
    sources,
    stol,
    xds,
)
from exactgrad.diffraction.formats.experiment import Experiment, make_panel
from exactgrad.diffraction.formats.images import read_image

DATA = Path(__file__).parents[1] / "data"
SHAPE = (3, 4)
READERS: dict[str, Callable[[Path], object]] = {
    "anomalous": lambda path: coordinates.read_anomalous(path, [1.0, 0.9], 3.0),
    "cbf": cbf.read,
    "cif": cif.read,
    "coordinates": lambda path: coordinates.read(path, 3.0, 0.35),
    "crystfel": crystfel.read,
    "dials": dials.read,
    "fdump": fdump.read,
    "hkl": hkl.read,
    "image": read_image,
    "mask": lambda path: mask.read(path, SHAPE),
    "mtz": mtz.read,
    "nexus": nexus.read,
    "npy": npy.read,
    "pgm": pgm.read,
    "raw_float": lambda path: raw_float.read(path, SHAPE),
    "smv": smv.read,
    "sources": lambda path: sources.read(path, 1e-10),
    "stol": stol.read,
    "xds": xds.read,
}
PIXELS = np.array([[0, 1, 200, -70000], [5, 5, 5, 5], [9, 2**31 - 1, -(2**31), 0]])

CIF = b"""data_r1abcsf
_cell.length_a 10.5
_cell.length_b 20
_cell.length_c 30
_cell.angle_alpha 90
_cell.angle_beta 95.5
_cell.angle_gamma 90
_symmetry.space_group_name_H-M 'P 1 21 1'
loop_
_refln.index_h
_refln.index_k
_refln.index_l
_refln.pdbx_F_plus
_refln.pdbx_F_minus
_refln.status
1 2 3 10.5 11 o
0 2 0 ? 4 o
-1 1 4 7 . f
"""
COORDINATES_CIF = b"""data_x
_cell.length_a 12
_cell.length_b 13
_cell.length_c 14
_cell.angle_alpha 90
_cell.angle_beta 100
_cell.angle_gamma 90
_symmetry.space_group_name_H-M 'P 1 21 1'
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.B_iso_or_equiv
_atom_site.auth_asym_id
_atom_site.auth_seq_id
_atom_site.pdbx_PDB_model_num
ATOM 1 N N . GLY A 1 1.0 2.0 3.0 1.00 5.0 A 1 1
ATOM 2 C CA . GLY A 1 2.1 2.9 3.5 0.50 7.5 A 1 1
HETATM 3 SE SE . MSE A 2 5.1 6.9 3.5 1.0 9.5 A 2 1
"""
CRYSTFEL = b"""; a comment
clen = 100.0 mm
photon_energy = 9000 eV
res = 10000
a/min_fs = 0
a/max_fs = 3
a/min_ss = 0
a/max_ss = 2
a/corner_x = -2.5
a/corner_y = 3.5
a/fs = +0.999x -0.01y
a/ss = 0.01x+0.999y
a/coffset = 0.001
b/min_fs = 4
b/max_fs = 7
b/min_ss = 0
b/max_ss = 2
b/corner_x = 2.5
b/corner_y = 3.5
b/fs = x
b/ss = y + 0.001z
"""
DIALS = {
    "__id__": "ExperimentList",
    "experiment": [{"__id__": "Experiment", "beam": 0, "detector": 0, "goniometer": 0, "scan": 0, "crystal": 0}],
    "beam": [{"direction": [0.0, 0.0, 2.0], "wavelength": 0.9795}],
    "goniometer": [{"rotation_axis": [1.0, 0.0, 0.0]}],
    "scan": [{"image_range": [1, 10], "oscillation": [5.0, 0.1], "properties": {"oscillation": [1.0, 2.0]}}],
    "crystal": [
        {
            "real_space_a": [30.0, 0, 0],
            "real_space_b": [0, 40.0, 0],
            "real_space_c": [0, 1.0, 50.0],
            "space_group_hall_symbol": " P 2y",
        }
    ],
    "detector": [
        {
            "panels": [
                {
                    "name": "p",
                    "fast_axis": [1.0, 0.0, 0.0],
                    "slow_axis": [0.0, 1.0, 0.0],
                    "origin": [2.0, 3.0, 0.5],
                    "image_size": [4, 3],
                    "pixel_size": [0.1, 0.2],
                }
            ],
            "hierarchy": {
                "fast_axis": [1.0, 0.0, 0.0],
                "slow_axis": [0.0, -1.0, 0.0],
                "origin": [-10.0, 20.0, -200.0],
                "children": [{"panel": 0}],
            },
        }
    ],
}
XDS = b""" XPARM.XDS    VERSION Jun 17, 2015
     1        0.0000    0.2500  0.999988 -0.001214  0.004726
       0.750000      -0.003162      -0.001518       1.333329
     1      6.9322     14.1162     14.1170  59.988  90.002  90.003
      -6.692194       1.615698      -0.812077
      -2.054420     -13.900000       1.230000
       1.100000       2.200000      13.900000
         1      1475      1679    0.172000    0.172000
     739.980000     852.120000     200.000000
       1.000000       0.000000       0.000000
       0.000000       1.000000       0.000000
       0.000000       0.000000       1.000000
         1         1      1475         1      1679
    0.00    0.00    0.00  1.00000  0.00000  0.00000  0.00000  1.00000  0.00000
"""


def seeds(name: str) -> list[bytes]:
    """Return files that a reader reads, at most a few tens of kilobytes each."""
    files = DATA / "diffraction_files"
    images = [
        _written(".npy", npy.write, PIXELS.astype(float)),
        _written(".cbf", cbf.write, PIXELS, ("Wavelength 1 A",)),
    ]
    images += [_smv(), b"P5\n# c\n4 3\n255\n" + bytes(range(12)), *_nexus()]
    images.insert(2, re.sub(rb"Content-MD5.*\r\n", b"", images[1])[:-4000])  # so that its pixels may change
    kept = [path.read_bytes() for path in sorted((DATA / "fuzz").glob(f"{name}-*"))]
    own = {
        "anomalous": [COORDINATES_CIF, _pdb(files)],
        "cbf": images[1:3],
        "cif": [CIF, gzip.compress(CIF), CIF.replace(b"pdbx_F_plus", b"F_squared_meas")],
        "coordinates": [COORDINATES_CIF, _pdb(files), gzip.compress(COORDINATES_CIF)],
        "crystfel": [CRYSTFEL],
        "dials": [json.dumps(DIALS).encode(), json.dumps(DIALS, indent=1).encode()],
        "fdump": [(files / "Fdump.bin").read_bytes()],
        "hkl": [b"1 2 3 4\n# c\n-1 0 3 1e2 ! c\n0 0 0 5\n", (files / "few.hkl").read_bytes()],
        "image": images,
        "mask": images,
        "mtz": [(files / "5e5z.mtz").read_bytes()],
        "nexus": images[5:],
        "npy": [images[0], _written(".npy", npy.write, PIXELS.astype(np.int32))],
        "pgm": [images[4], b"P5 4 3 255\n" + bytes(range(12))],
        "raw_float": [PIXELS.astype("<f4").tobytes()],
        "smv": [images[3], (files / "intimage.img").read_bytes()],
        "sources": [b"1 0 0 1 1e-10\n# c\n0 1 0 3\n", b"-10 0.1 0\n", b"-10 0.1 0 2\n"],
        "stol": [b"# stol F\n0 2.57\n0.1 3\n0.35 5.8\n"],
        "xds": [XDS],
    }
    return own[name] + kept


def _written(ending: str, write: Callable[..., object], *arguments: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{ending}"
        write(path, *arguments)
        return path.read_bytes()


def _smv() -> bytes:
    header = "{\nHEADER_BYTES=512;\nDIM=2;\nBYTE_ORDER=little_endian;\nTYPE=unsigned_short;\nSIZE1=4;\nSIZE2=3;\n"
    header += "PIXEL_SIZE=0.1;\nDISTANCE=100;\nWAVELENGTH=1;\nBEAM_CENTER_X=0.2;\nORGX=2;\n}\f"
    return header.encode().ljust(512) + bytes(range(24))


def _pdb(files: Path) -> bytes:
    whole = (files / "5e5z.pdb").read_bytes()
    cell = next(line for line in whole.splitlines() if line.startswith(b"CRYST1"))
    atoms = [line for line in whole.splitlines() if line.startswith((b"ATOM", b"HETATM", b"ANISOU"))]
    return b"\n".join([cell, *atoms[:12], b"END"]) + b"\n"


def _nexus() -> list[bytes]:
    panel = make_panel(Path("p"), "p", [-0.01, 0.02, 0.2], [1, 0, 0], [0, -1, 0], (75e-6, 75e-6), SHAPE)
    experiment = Experiment((panel,), np.array([0.0, 0, 1]), 1e-10, None, np.array([1.0, 0, 0]), 0.0, 0.1)
    frames = np.abs(np.stack([PIXELS, PIXELS])).astype(np.uint32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        nexus.write(path, frames, experiment, saturation=1000)
        found = [path.read_bytes()]
        if importlib.util.find_spec("hdf5plugin"):
            import hdf5plugin

            with h5py.File(path, "r+") as handle:
                del handle["entry/instrument/detector/data"], handle["entry/data/data"]
                handle.create_dataset("entry/data/data", data=frames, chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle())
            found.append(path.read_bytes())
    return found
