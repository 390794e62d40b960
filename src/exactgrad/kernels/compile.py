"""Compile scalar functions and kernels with numba; cache what was compiled where the user may write.

The cache folder's name holds a hash of every kernel source: numba's own cache looks at one file only and would not
see an edit in a file that a kernel inlines.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numba
from numba.core import config
from numba.np.unsafe.ndarray import to_fixed_tuple

# Flags that let LLVM fuse and reorder. nnan and ninf are left out: what is not finite is not assumed away, so that the
# callers, who check every result, see it (reassoc alone may still cancel a NaN: a + b - a).
FAST = {"contract", "reassoc", "nsz", "arcp"}
LOG = logging.getLogger("exactgrad.kernels")
# Numbers of an array as a tuple of known length: they cannot alias the lanes a loop writes to, so that it vectorises.
as_tuple: Any = to_fixed_tuple


def scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a plain scalar function so that kernels inline it; the Python original stays at ``.py_func``."""
    return numba.njit(fastmath=FAST, error_model="numpy")(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a scalar function whose body always goes where it is called.

    LLVM leaves large ones as calls, and a loop with a call in it does not vectorise.
    """
    return numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)(function)


def formulas(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Compile every function that `module` defines, calls between them included, and leave the module untouched.

    This is how formulas that live as plain Python, left of `kernels/`, become device functions of a kernel.
    """
    names = dict(vars(module))
    functions = {
        name: item
        for name, item in names.items()
        if isinstance(item, FunctionType) and item.__module__ == module.__name__
    }
    for name, item in functions.items():
        names[name] = scalar(FunctionType(item.__code__, names, name, item.__defaults__))
    return {name: names[name] for name in functions}


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a kernel for `signature` when it is defined, or load it from the cache; it releases the GIL.

    Parameters
    ----------
    signature : str
        A numba signature, e.g. ``"void(float64[:, ::1], int64)"``.
    """

    def compile_now(function: Callable[..., Any]) -> Callable[..., Any]:
        folder = cache_folder()
        options: dict[str, Any] = {"fastmath": FAST, "nogil": True, "error_model": "numpy"}
        if folder is None:
            return numba.njit(signature, **options)(function)
        _announce_once(folder)
        with _numba_cache_in(folder):
            return numba.njit(signature, cache=True, **options)(function)

    return compile_now


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder for compiled kernels (made if missing), or None where nothing can be written.

    ``EXACTGRAD_CACHE_DIR`` overrides the user's cache folder (``XDG_CACHE_HOME`` or ``~/.cache``).
    """
    base = os.environ.get("EXACTGRAD_CACHE_DIR")
    root = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "exactgrad"
    for choose in (lambda: root, lambda: Path(tempfile.gettempdir()) / f"exactgrad-{os.getuid()}"):
        try:
            candidate = choose()
            folder = candidate / f"kernels-{source_hash()}"
            folder.mkdir(parents=True, exist_ok=True)
            if candidate.stat().st_uid != os.getuid() and not base:
                continue  # a folder that another user made could hold code of theirs
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    LOG.warning("no folder for compiled kernels can be written: they are compiled anew in every process")
    return None


@functools.cache
def source_hash() -> str:
    """Hash the sources that kernels are made of, and numba's version."""
    package = Path(__file__).resolve().parent.parent
    sources = [*package.glob("*/*kernel.py"), *package.glob("kernels/*.py"), *package.glob("rotations/scalar.py")]
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _announce_once(folder: Path) -> None:
    if not any(folder.rglob("*.nbi")):
        LOG.warning("compiling kernels for this machine: once, some seconds; kept in %s", folder)


@contextlib.contextmanager
def _numba_cache_in(folder: Path) -> Iterator[None]:
    before = config.CACHE_DIR  # type: ignore[attr-defined]
    config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]
