"""SO(3): rotation vectors, quaternions, Euler angles by name, and their exact derivatives.

`scalar.py` holds the formulas as scalar functions for kernels; the other modules work on arrays.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "exp": "maps",
    "rotate": "maps",
    "left_jacobian": "maps",
    "left_jacobian_inverse": "maps",
    "log": "logarithm",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"exactgrad.rotations.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
