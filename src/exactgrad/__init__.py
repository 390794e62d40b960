"""exactgrad: instruments that are rotations seen through a detector, with exact gradients.

Importing this package loads nothing heavy: each system is a subpackage (``exactgrad.pulses``) that loads its
kernels when they are first used.
"""

__version__ = "0.1.0"
