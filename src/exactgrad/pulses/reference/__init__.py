"""The paper's own methods as named references: Tables 1-5, augmented exponentials, GRAPE, finite differences.

They share no code with the kernel. `gradient` is the way in; the modules hold the derivatives of one step.
"""

from exactgrad.pulses.reference.augmented import augmented_exponential, augmented_quaternion
from exactgrad.pulses.reference.gradients import METHODS, gradient
from exactgrad.pulses.reference.tables import (
    quaternion_derivatives_cartesian,
    quaternion_derivatives_polar,
    table_derivatives_cartesian,
    table_derivatives_polar,
)

__all__ = [
    "METHODS",
    "augmented_exponential",
    "augmented_quaternion",
    "gradient",
    "quaternion_derivatives_cartesian",
    "quaternion_derivatives_polar",
    "table_derivatives_cartesian",
    "table_derivatives_polar",
]
