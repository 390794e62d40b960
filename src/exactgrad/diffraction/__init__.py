"""Diffraction: the image of a mosaic nanocrystal on a detector.

What stands: the physics as a readable model (`model.image` of a `scene.Scene`), the C program's command line as data
(`options.parse`), its random numbers, noise and file formats. The fused kernel, its gradient and refinement are not
here yet, so there is no `SYSTEM` and the command line does not list it.
"""
