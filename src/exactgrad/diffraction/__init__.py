"""Nanocrystal diffraction: the image of a mosaic crystal on a detector, its gradient, and refinement."""
