"""Refinement: what is unknown in one or many images, and how it is found."""
