"""How a kernel's one source is compiled, cached and spread over threads."""

from exactgrad.kernels.compile import compiled, formulas, scalar
from exactgrad.kernels.threads import choose_threads, for_each

__all__ = ["choose_threads", "compiled", "for_each", "formulas", "scalar"]
