"""Compile every kernel once, into the cache, before pytest's processes start: else each of them would compile them."""

import importlib
from pathlib import Path

import exactgrad

WALKS = {
    "uniaxial": ("forward", "backward", "forward_tangent", "backward_tangent", "forward_slopes"),
    "tensor": ("forward", "backward"),
    "basin": ("backward_tangent",),
    "curvature": ("backward",),
}

if __name__ == "__main__":
    for path in sorted(Path(exactgrad.__file__).parent.glob("*/*kernel.py")):
        importlib.import_module(f"exactgrad.{path.parent.name}.{path.stem}")
    for model, walks in WALKS.items():
        kernels = importlib.import_module(f"exactgrad.tomography.{model}_kernel").KERNELS
        for walk in walks:
            getattr(kernels, walk)
