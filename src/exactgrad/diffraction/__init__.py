"""Diffraction: the image of a mosaic nanocrystal on a detector.

What stands: the physics as a readable model (`model.image` of a `scene.Scene`) and fused (`render.image`), the C
program's command line as data (`options.parse`) and as a command (`nanobragg`), its random numbers, noise and file
formats. The gradient and refinement are not here yet, so there is no `SYSTEM` and `exactgrad` does not list it.
"""
