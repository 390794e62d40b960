"""Files that are not what they say: an exact error class and one line, never a crash, a hang or a NaN."""

import base64
import gzip
import hashlib
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exactgrad.diffraction.formats import (
    cbf,
    cif,
    coordinates,
    crystfel,
    dials,
    fdump,
    hkl,
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
from exactgrad.diffraction.formats.images import read_image
from exactgrad.errors import FormatError, InputError, RefusedFile

DATA = Path(__file__).parents[2] / "data" / "diffraction_files"
READERS = {
    "cbf": cbf.read,
    "cif": cif.read,
    "coordinates": lambda path: coordinates.read(path, 3.0),
    "crystfel": crystfel.read,
    "dials": dials.read,
    "fdump": fdump.read,
    "hkl": hkl.read,
    "image": read_image,
    "mtz": mtz.read,
    "nexus": nexus.read,
    "npy": npy.read,
    "pgm": pgm.read,
    "raw_float": lambda path: raw_float.read(path, (3, 4)),
    "smv": smv.read,
    "sources": lambda path: sources.read(path, 1e-10),
    "stol": stol.read,
    "xds": xds.read,
}
SMV = (DATA / "intimage.img").read_bytes()
MTZ = (DATA / "5e5z.mtz").read_bytes()
PDB = (DATA / "5e5z.pdb").read_bytes()
DUMP = (DATA / "Fdump.bin").read_bytes()


def refused(path, read, error, message):
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("name", READERS)
class TestEveryReader:
    def test_missing(self, tmp_path, name):
        refused(tmp_path / "a", READERS[name], InputError, "no such file")

    def test_folder(self, tmp_path, name):
        refused(tmp_path, READERS[name], InputError, "not a regular file")

    def test_pipe(self, tmp_path, name):
        os.mkfifo(tmp_path / "a")
        refused(tmp_path / "a", READERS[name], InputError, "not a regular file")

    @pytest.mark.parametrize(
        "content", [b"", b"\n \n", bytes(range(256)) * 8, b"It was a dark\nand stormy night\n" * 9], ids=range(4)
    )
    def test_other_content(self, tmp_path, name, content):
        (tmp_path / "a").write_bytes(content)
        refused(tmp_path / "a", READERS[name], FormatError, "a")


@pytest.mark.parametrize("name", ["cif", "coordinates", "crystfel", "dials", "sources", "stol", "xds"])
def test_text_files_too_large(tmp_path, name):
    with open(tmp_path / "a", "wb") as handle:
        handle.truncate(300_000_000)
    refused(tmp_path / "a", READERS[name], RefusedFile, "larger than")


@pytest.mark.parametrize(("name", "module", "limit"), [("hkl", hkl, "LIMIT_BYTES"), ("mtz", mtz, "LIMIT_BYTES")])
def test_reflections_are_read_to_a_limit(tmp_path, monkeypatch, name, module, limit):
    monkeypatch.setattr(module, limit, 100)
    (tmp_path / "a").write_bytes(b"1 2 3 4\n" * 50)
    refused(tmp_path / "a", READERS[name], RefusedFile, "larger than 100 bytes")


@pytest.mark.parametrize("name", ["smv", "npy", "pgm", "cbf", "raw_float"])
def test_images_are_read_to_a_limit(tmp_path, monkeypatch, name):
    monkeypatch.setattr("exactgrad.diffraction.formats.bounds.MAX_PIXELS", 100)
    monkeypatch.setattr("exactgrad.diffraction.formats.bounds.HEADER_LIMIT_BYTES", 1000)
    (tmp_path / "a").write_bytes(b"{" * 5000)
    refused(tmp_path / "a", READERS[name], RefusedFile, "larger than")


def smv_with(old, new):
    header, pixels = SMV[:512], SMV[512:]
    changed = header.replace(old, new, 1)
    assert changed != header
    return changed[:512].ljust(512) + pixels


def npy_with(header, body=b"\0" * 96, version=b"\x01\x00"):
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + body


def cbf_with(stream, fast=2, slow=2, digest=None, size=None, **changes):
    keys = {
        "X-Binary-Size": len(stream) if size is None else size,
        "X-Binary-Element-Type": '"signed 32-bit integer"',
        "X-Binary-Element-Byte-Order": "LITTLE_ENDIAN",
        "Content-MD5": digest or base64.b64encode(hashlib.md5(stream, usedforsecurity=False).digest()).decode(),
        "X-Binary-Number-of-Elements": fast * slow if isinstance(fast, int) and isinstance(slow, int) else 4,
        "X-Binary-Size-Fastest-Dimension": fast,
        "X-Binary-Size-Second-Dimension": slow,
    }
    keys |= {key.replace("_", "-"): value for key, value in changes.items()}
    text = "\r\n".join(f"{key}: {value}" for key, value in keys.items() if value is not None)
    head = f'###CBF: VERSION 1.5\r\ndata_a\r\n{cbf.BOUNDARY}\r\n     conversions="x-CBF_BYTE_OFFSET"\r\n{text}\r\n\r\n'
    return head.encode() + cbf.MARKER + stream + b"\0" * 64


def mtz_with(old, new):
    changed = MTZ.replace(old, new, 1)
    assert changed != MTZ
    return changed


HOSTILE = {
    "smv": {
        "header only": (SMV[:512], FormatError, "0 bytes of pixels where SIZE1=64, SIZE2=64 needs 8192"),
        "one byte short": (SMV[:-1], FormatError, "8191 bytes of pixels"),
        "one byte long": (SMV + b"\0", FormatError, "8193 bytes of pixels"),
        "cut in the header": (SMV[:300], FormatError, "ends within its header"),
        "no size": (smv_with(b"SIZE1=64;\n", b""), FormatError, r"SIZE1=\(missing\)"),
        "negative": (smv_with(b"SIZE1=64", b"SIZE1=-64"), FormatError, "-64 pixels along fast"),
        "zero": (smv_with(b"SIZE1=64", b"SIZE1=0"), FormatError, "0 pixels along fast"),
        "nan": (smv_with(b"SIZE1=64", b"SIZE1=nan"), FormatError, "SIZE1=nan: a finite number"),
        "half": (smv_with(b"SIZE1=64", b"SIZE1=64.5"), FormatError, "SIZE1=64.5: a whole number"),
        "wide": (smv_with(b"SIZE1=64", b"SIZE1=1e9"), FormatError, "1000000000 pixels along fast"),
        "huge": (smv_with(b"SIZE1=64;\nSIZE2=64", b"SIZE1=60000;\nSIZE2=60000"), RefusedFile, "at most 268435456"),
        "2^32 wraps": (smv_with(b"SIZE1=64", b"SIZE1=4294967360"), FormatError, "pixels along fast"),
        "type": (smv_with(b"unsigned_short", b"long_integer"), FormatError, "TYPE=long_integer"),
        "order": (smv_with(b"little_endian", b"middle"), FormatError, "BYTE_ORDER=middle"),
        "header bytes": (smv_with(b"HEADER_BYTES=512", b"HEADER_BYTES=513"), FormatError, "a multiple of 512"),
        "header bytes 0": (smv_with(b"HEADER_BYTES=512", b"HEADER_BYTES=0"), FormatError, "a multiple of 512"),
        "header bytes -": (smv_with(b"HEADER_BYTES=512", b"HEADER_BYTES=-512"), FormatError, "a whole number"),
        "header bytes huge": (smv_with(b"HEADER_BYTES=512", b"HEADER_BYTES=99999744"), FormatError, "at most 65536"),
        "header bytes digits": (smv_with(b"=512", "=５12".encode()), FormatError, "a whole number"),
        "not closed": (smv_with(b"}", b" "), FormatError, "no closing"),
    },
    "pgm": {
        "wrong magic": (b"P2\n2 2\n255\n0 0 0 0", FormatError, "not a binary PGM"),
        "short": (b"P5\n2 2\n255\n\0\0\0", FormatError, "3 bytes of pixels"),
        "long": (b"P5\n2 2\n255\n\0\0\0\0\0", FormatError, "5 bytes of pixels"),
        "no maximum": (b"P5\n2 2\n", FormatError, "no maximum"),
        "maximum 0": (b"P5\n2 2\n0\n\0\0\0\0", FormatError, "maximum 0"),
        "maximum": (b"P5\n2 2\n70000\n\0\0\0\0", FormatError, "maximum 70000"),
        "above": (b"P5\n2 2\n7\n\0\0\0\x08", FormatError, "a pixel of 8 where the maximum is 7"),
        "negative": (b"P5\n-2 2\n255\n\0\0\0\0", FormatError, "no width"),
        "wide": (b"P5\n999999999 2\n255\n", FormatError, "pixels along fast"),
        "huge": (b"P5\n65535 65535\n255\n", RefusedFile, "at most 268435456"),
        "comment bomb": (b"P5\n" + b"#\n" * 100_000, FormatError, "no width"),
        "digits": (b"P5\n" + b"9" * 5000 + b" 2\n255\n", FormatError, "no width"),
    },
    "npy": {
        "pickle": (npy_with("{'descr': '|O', 'fortran_order': False, 'shape': (3, 4), }"), FormatError, "real numbers"),
        "text": (npy_with("{'descr': '<U1', 'fortran_order': False, 'shape': (3, 8), }"), FormatError, "real numbers"),
        "complex": (
            npy_with("{'descr': '<c8', 'fortran_order': False, 'shape': (3, 4), }"),
            FormatError,
            "real number",
        ),
        "flat": (npy_with("{'descr': '<f8', 'fortran_order': False, 'shape': (12,), }"), FormatError, "shape"),
        "huge": (
            npy_with("{'descr': '<f8', 'fortran_order': False, 'shape': (60000, 60000), }"),
            RefusedFile,
            "60000 x 60000",
        ),
        "negative": (
            npy_with("{'descr': '<f8', 'fortran_order': False, 'shape': (-3, 4), }"),
            FormatError,
            "-3 pixels",
        ),
        "short": (npy_with("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 5), }"), FormatError, "96 bytes"),
        "nan": (
            npy_with("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }", struct.pack("<d", np.nan) * 12),
            FormatError,
            r"pixel \(0, 0\) = nan",
        ),
        "code": (npy_with("{'descr': __import__('os'), 'fortran_order': False, 'shape': (3, 4)}"), FormatError, "npy"),
        "nested": (npy_with("(" * 110), FormatError, "not a readable .npy"),
        "version": (npy_with("{}", version=b"\x09\x00"), FormatError, "not a readable .npy"),
        "header bomb": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 60000) + b" " * 60000, FormatError, "npy"),
        "header missing": (b"\x93NUMPY\x01\x00\xff\xff{}", FormatError, "not a readable .npy"),
    },
    "raw_float": {
        "short": (b"\0" * 47, FormatError, "47 bytes of pixels where 3 x 4 float32 needs 48"),
        "long": (b"\0" * 49, FormatError, "49 bytes"),
        "nan": (struct.pack("<f", np.nan) * 12, FormatError, "= nan"),
        "inf": (struct.pack("<f", np.inf) * 12, FormatError, "= inf"),
    },
    "cbf": {
        "no marker": (cbf_with(b"\1\1\1\1").replace(cbf.MARKER, b""), FormatError, "no binary section"),
        "no boundary": (cbf_with(b"\1\1\1\1").replace(cbf.BOUNDARY.encode(), b""), FormatError, "no --CIF-BINARY"),
        "md5": (cbf_with(b"\1\1\1\1", digest="AAAAAAAAAAAAAAAAAAAAAA=="), FormatError, "MD5 sum is"),
        "flipped": (
            cbf_with(b"\1\1\1\1").replace(cbf.MARKER + b"\1", cbf.MARKER + b"\2"),
            FormatError,
            "MD5 sum is",
        ),
        "short stream": (cbf_with(b"\1\1\1"), FormatError, "3 bytes cannot hold 4 pixels"),
        "long stream": (cbf_with(b"\1\1\1\1\1"), FormatError, "1 bytes are left"),
        "escape at the end": (cbf_with(b"\1\1\1\x80"), FormatError, "end at pixel 3 of 4"),
        "half a short": (cbf_with(b"\1\1\1\x80\1"), FormatError, "end at pixel 3 of 4"),
        "escape of 32 at the end": (cbf_with(b"\1\1\1\x80\x00\x80\1\1\1"), FormatError, "end at pixel 3"),
        "escape of 64 at the end": (cbf_with(b"\1\1\1\x80\x00\x80\0\0\0\x80\1"), FormatError, "end at pixel 3"),
        "out of range": (cbf_with(b"\x80\x00\x80\0\0\0\x80" + b"\xff" * 7 + b"\x7f\1\1\1"), FormatError, "32 bits"),
        "most negative": (cbf_with(b"\x80\x00\x80\0\0\0\x80" + b"\0" * 7 + b"\x80\1\1\1"), FormatError, "32 bits"),
        "creeps out": (cbf_with(b"\x80\x00\x80\xff\xff\xff\x7f\1\1\1"), FormatError, "pixel 1 does not fit"),
        "size too large": (cbf_with(b"\1\1\1\1", size=10**6), FormatError, "cut off"),
        "size missing": (cbf_with(b"\1\1\1\1", X_Binary_Size=None), FormatError, r"x-binary-size: \(missing\)"),
        "size negative": (cbf_with(b"\1\1\1\1", size=-4), FormatError, "a whole number"),
        "size digits": (cbf_with(b"\1\1\1\1", size="9" * 5000), FormatError, "a whole number"),
        "dimension 0": (cbf_with(b"\1\1\1\1", fast=0), FormatError, "0 pixels along fast"),
        "dimension negative": (cbf_with(b"\1\1\1\1", fast=-2), FormatError, "a whole number"),
        "dimensions huge": (cbf_with(b"\1\1\1\1", fast=60000, slow=60000), RefusedFile, "at most 268435456"),
        "bomb": (cbf_with(b"\1" * 100, fast=10000, slow=10000), FormatError, "cannot hold 100000000 pixels"),
        "elements": (cbf_with(b"\1\1\1\1", X_Binary_Number_of_Elements=5), FormatError, "Number-of-Elements differs"),
        "stack": (cbf_with(b"\1\1\1\1", X_Binary_Size_Third_Dimension=9), FormatError, "a stack of images"),
        "floats": (cbf_with(b"\1\1\1\1", X_Binary_Element_Type='"signed 32-bit real IEEE"'), FormatError, "integers"),
        "big endian": (
            cbf_with(b"\1\1\1\1", X_Binary_Element_Byte_Order="BIG_ENDIAN"),
            FormatError,
            "must be LITTLE_ENDIAN",
        ),
        "packed": (cbf_with(b"\1\1\1\1").replace(b"BYTE_OFFSET", b"PACKED"), FormatError, "only conversions"),
    },
    "hkl": {
        "three columns": (b"1 2 3 4\n1 2 3\n", FormatError, r":2: 3 columns where 4 are needed \(h, k, l, F\)"),
        "five columns": (b"1 2 3 4 5\n", FormatError, ":1: 5 columns"),
        "half": (b"1 2 3 4\n# x\n1 2.5 3 4\n", FormatError, ":3: h k l = 1 2.5 3 4: whole numbers"),
        "nan": (b"1 2 3 nan\n", FormatError, ":1: F = 'nan'"),
        "inf": (b"1 2 3 inf\n", FormatError, ":1: F = 'inf'"),
        "overflow": (b"1 2 3 1e999\n", FormatError, "must not exceed 1e"),
        "hexadecimal": (b"1 2 3 0x10\n", FormatError, ":1: F = '0x10'"),
        "underscore": (b"1 2 3 1_0\n", FormatError, ":1: F = '1_0'"),
        "other digits": ("1 2 3 ٣\n".encode(), FormatError, ":1: F = "),
        "index": (b"99999 2 3 1\n", FormatError, "an index of 99999"),
        "index huge": (b"1e18 2 3 1\n", FormatError, r"an index of 1e\+18"),
        "index beyond integers": (b"1e19 2 3 1\n", FormatError, r"an index of 1e\+19"),
        "long line": (b"1 2 3 4" + b" " * 5000 + b"\n", FormatError, ":1: a line of"),
        "comments only": (b"# 1 2 3 4\n", FormatError, "empty"),
        "zero bytes": (b"1 2 3 4\n\0", FormatError, "zero bytes"),
        "words": (b"h k l F\n1 2 3 4\n", FormatError, ":1: h = 'h'"),
    },
    "fdump": {
        "short": (DUMP[:-1], FormatError, "bytes of F where its limits need"),
        "long": (DUMP + b"\0", FormatError, "bytes of F where its limits need"),
        "no form feed": (DUMP.replace(b"\n\f", b"\n", 1), FormatError, "does not begin with six"),
        "reversed": (b"5 -5 0 1 0 1\n\f" + b"\0" * 64, FormatError, "index limits"),
        "huge": (b"-9999 9999 -9999 9999 -9999 9999\n\f" + b"\0" * 64, RefusedFile, "at most 64000000"),
        "far": (b"-99999 -99998 0 1 0 1\n\f" + b"\0" * 216, FormatError, "index limits"),
        "nan": (b"0 0 0 0 0 0\n\f" + struct.pack("<d", np.nan) * 8, FormatError, "= nan"),
    },
    "mtz": {
        "truncated": (MTZ[:4000], FormatError, "cut off"),
        "magic": (b"ZTM " + MTZ[4:], FormatError, "not an MTZ"),
        "header far away": (MTZ[:4] + struct.pack("<i", 2**31 - 1) + MTZ[8:], FormatError, "cut off"),
        "header before the file": (MTZ[:4] + struct.pack("<i", -7) + MTZ[8:], FormatError, "cut off"),
        "row bomb": (mtz_with(b"NCOL        8          441", b"NCOL        8     44100000"), FormatError, "declares"),
        "row bomb 2": (mtz_with(b"NCOL        8          441", b"NCOL        8    999999999"), RefusedFile, "at most"),
        "column bomb": (mtz_with(b"NCOL        8 ", b"NCOL 99999999 "), FormatError, "declares"),
        "no columns": (mtz_with(b"NCOL ", b"NCOX "), FormatError, "no NCOL"),
        "no group": (
            mtz_with(b"SYMINF ", b"XYMINF ").replace(b"SYMM ", b"XYMM "),
            FormatError,
            "space group is not known",
        ),
        "cell": (MTZ.replace(b"    9.6430 ", b"   -9.6430 "), FormatError, "cell -9.643 .*: not a unit cell"),
    },
    "coordinates": {
        "no atoms": (PDB[: PDB.index(b"ATOM")], FormatError, "no atoms"),
        "no cell": (PDB.replace(b"CRYST1", b"REMARK", 1), FormatError, "no unit cell"),
        "group": (PDB.replace(b"P 1 21 1", b"Q 9 99 9"), FormatError, "space group 'Q 9 99 9'"),
        "mmCIF broken": (b"data_a\nloop_\n_atom_site.id\n_atom_site.x\n1\n", FormatError, "coordinate file"),
        "gzip cut off": (gzip.compress(PDB)[:1000], FormatError, "cut off"),
        "gzip damaged": (b"\x1f\x8b" + b"x" * 100, FormatError, "damaged gzip"),
    },
    "cif": {
        "no loop": (b"data_a\n_cell.length_a 5\n", FormatError, "no _refln loop"),
        "broken": (b"data_a\nloop_\n_refln.index_h\n_refln.index_k\n1\n", FormatError, "mmCIF"),
        "quote": (b"data_a\n_x 'abc\n", FormatError, "mmCIF"),
    },
    "sources": {
        "two columns": (b"1 2\n", FormatError, ":1: 2 columns where 3"),
        "six columns": (b"1 2 3 4 1e-10 6\n", FormatError, ":1: 6 columns where 5"),
        "nan": (b"nan 2 3\n", FormatError, ":1: X = 'nan'"),
        "nowhere": (b"0 0 0\n", FormatError, ":1: X Y Z = 0 0 0"),
        "weight": (b"1 0 0 -1\n", FormatError, ":1: weight = -1"),
        "weights": (b"1 0 0 0\n1 0 1 0\n", FormatError, "all weights are 0"),
        "angstrom": (b"1 0 0 1 1.0\n", FormatError, ":1: lambda = 1 m: must be from 1e-13 to 1e-07 m"),
        "lambda 0": (b"1 0 0 1 0\n", FormatError, ":1: lambda = 0 m"),
    },
    "stol": {
        "one column": (b"0\n", FormatError, ":1: 1 columns where 2 are needed"),
        "nan": (b"0 nan\n", FormatError, ":1: F = 'nan'"),
        "negative": (b"0 2\n0.1 -1\n", FormatError, ":2: F = -1"),
        "far": (b"0 2\n1000 1\n", FormatError, ":2: stol = 1000 1/A: must be from 0 to 100"),
        "out of order": (b"0 2\n0.2 1\n0.1 1\n", FormatError, ":3: stol = 0.1 1/A: must be larger than 0.2"),
        "twice": (b"0 2\n0 1\n", FormatError, ":2: stol = 0 1/A: must be larger than 0"),
    },
}


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in HOSTILE.items() for case in cases], ids=lambda text: text
)
def test_hostile(tmp_path, name, case):
    content, error, message = HOSTILE[name][case]
    path = tmp_path / "file"
    path.write_bytes(content)
    refused(path, READERS[name], error, message)


def test_a_gzip_bomb_is_refused(tmp_path):
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as handle:
        for _ in range(300):
            handle.write(b" " * (1 << 20))
    (tmp_path / "a.pdb.gz").write_bytes(packed.getvalue())
    refused(tmp_path / "a.pdb.gz", READERS["coordinates"], RefusedFile, "unpacks to more than")


def test_atoms_that_are_not_finite(tmp_path):
    line = next(line for line in PDB.splitlines() if line.startswith(b"ATOM"))
    spoilt = PDB.replace(line, line[:30] + b"     nan" + line[38:], 1)
    (tmp_path / "a.pdb").write_bytes(spoilt)
    with pytest.raises(FormatError, match=r"coordinate file|not finite"):
        coordinates.read(tmp_path / "a.pdb", 3.0)


SEEDS = {
    "smv": SMV[:600],
    "cbf": cbf_with(b"\x80\x00\x80\xff\xff\xff\x0f\1\1\1"),
    "pgm": b"P5\n2 2\n# c\n255\n\0\0\0\0",
    "npy": npy_with("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }"),
    "fdump": DUMP,
    "hkl": b"1 2 3 4\n# c\n-1 0 3 1e2\n",
    "sources": b"1 0 0 1 1e-10\n",
    "stol": b"# stol F\n0 2.57\n0.35 5.8\n",
    "mtz": MTZ,
    "coordinates": PDB[:3000] + PDB[-500:],
}


@pytest.mark.parametrize("name", SEEDS)
@settings(deadline=None, derandomize=True, max_examples=80)
@given(data=st.data())
def test_files_changed_at_random_are_read_or_refused(tmp_path_factory, name, data):
    content = bytearray(SEEDS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    path = tmp_path_factory.mktemp("fuzz") / "file"
    path.write_bytes(bytes(content) if data.draw(st.booleans()) else bytes(content[:cut]))
    try:
        READERS[name](path)
    except InputError as error:
        assert "\n" not in str(error)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.binary(min_size=4, max_size=40))
@example(b"\x80\x00\x80\x00\x00\x00\x80" + b"\xff" * 8)
def test_any_stream_is_decoded_or_refused(tmp_path_factory, stream):
    path = tmp_path_factory.mktemp("stream") / "a.cbf"
    path.write_bytes(cbf_with(stream))
    try:
        pixels = cbf.read(path).pixels
    except FormatError:
        return
    # what was accepted is what the standard's own words give, byte for byte
    reader, value, expected = io.BytesIO(stream), 0, []
    while reader.tell() < len(stream):
        for width, code, escape in ((1, "<b", -(2**7)), (2, "<h", -(2**15)), (4, "<i", -(2**31)), (8, "<q", None)):
            (step,) = struct.unpack(code, reader.read(width))
            if step != escape:
                break
        value += step
        expected.append(value)
    assert pixels.ravel().tolist() == expected
