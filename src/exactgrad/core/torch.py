"""The bridge to PyTorch: a function with an exact pullback becomes part of an autograd graph.

The numbers are computed in float64 on the CPU, whatever the tensors are: a float32 or CUDA tensor gets a result of its
own kind, and a gradient as good as float64's. A second derivative is refused in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from exactgrad.errors import BackendMissing

try:
    import torch
except ImportError as missing:
    raise BackendMissing("PyTorch is not installed: pip install 'exactgrad[torch]'") from missing

Pullback = Callable[[np.ndarray], Sequence[np.ndarray]]
Evaluate = Callable[[list[np.ndarray]], tuple[np.ndarray, Pullback]]


class _Bridge(torch.autograd.Function):
    """An autograd node around NumPy code."""

    @staticmethod
    def forward(ctx: Any, evaluate: Evaluate, *tensors: torch.Tensor) -> torch.Tensor:
        arrays = [tensor.detach().to("cpu", torch.float64).numpy().copy() for tensor in tensors]
        result, ctx.pullback = evaluate(arrays)
        ctx.save_for_backward(*tensors)
        return torch.from_numpy(np.ascontiguousarray(result)).to(tensors[0].device, _joint_dtype(tensors))

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[Any, ...]:
        return None, *_Reverse.apply(ctx.pullback, cotangent, *ctx.saved_tensors)


class _Reverse(torch.autograd.Function):
    """The gradient as a node of its own, so that whoever differentiates it is told that it cannot be."""

    @staticmethod
    def forward(ctx: Any, pullback: Pullback, cotangent: torch.Tensor, *tensors: torch.Tensor) -> tuple[Any, ...]:
        arrays = pullback(cotangent.detach().to("cpu", torch.float64).numpy())
        return tuple(  # copies: torch may keep and change them
            torch.tensor(np.asarray(array), dtype=tensor.dtype, device=tensor.device).reshape(tensor.shape)
            for array, tensor in zip(arrays, tensors, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> None:
        raise RuntimeError("exactgrad: a second derivative was asked for; only the first is here")


def _joint_dtype(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    kind = tensors[0].dtype
    for tensor in tensors[1:]:
        kind = torch.promote_types(kind, tensor.dtype)
    return kind


def call(evaluate: Evaluate, *tensors: torch.Tensor) -> torch.Tensor:
    """Return ``evaluate`` of the tensors as a tensor that autograd can go back through.

    Parameters
    ----------
    evaluate : callable
        From a list of float64 arrays to (result, pullback), where the pullback takes dL/dresult to dL/d of each array.
    *tensors : torch.Tensor
        At least one, floating point, of any device; the result is on the first one's, in their joint dtype.

    Raises
    ------
    RuntimeError
        By torch, when a second derivative is asked for.

    Examples
    --------
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> call(lambda a: (a[0] ** 2, lambda g: [2 * g * a[0]]), x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """
    return _Bridge.apply(evaluate, *tensors)
