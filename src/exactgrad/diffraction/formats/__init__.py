"""Diffraction files: one module a format, each with `read` and, where the field writes it, `write`.

Images: `smv`, `raw_float`, `pgm`, `cbf`, `nexus`, `npy`; written only: `tiff`, `png`; `nanobragg` makes the C program's
four. Amplitudes: `hkl`, `fdump`, `mtz`, `cif`, `coordinates`. Geometry: `dials`, `xds`, `crystfel`. Also `mask` and
`sources`. By content or name: `images.read_image`, `amplitudes.read_amplitudes`.
"""
