"""The random numbers of the C program, deviate by deviate, so that its seeds give its images.

The generator is "minimal standard" (Park and Miller) with a Bays-Durham shuffle of 32 places; normal deviates are
polar Box-Muller; Poisson deviates multiply uniform ones below a mean of 12, reject from a Lorentzian up to 1e6 and are
normal above (Press et al., Numerical Recipes in C, 2nd ed., ch. 7). What makes a deviate the C program's, and not just
of the same law, is where it rounds to float32: each such place is written out below.

The formulas are plain Python; for whole images they are compiled when first needed, with no licence to reorder.
Bit-identical to the C program built without fused multiply-adds (``gcc -O2``); ``-march=native`` fuses some roundings
away and then deviates of means above 12 differ now and then. For statistics of your own take
`numpy.random.default_rng`: single precision makes the variance of this Poisson deviate 0.3 % too large at a mean of
1e5 and 3 % at 1e6 (`exactgrad.diffraction.noise` draws from NumPy; the C program's image has its own function).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from exactgrad.errors import InputError, require_finite

MULTIPLIER = 16807
MODULUS = 2147483647  # 2^31 - 1
QUOTIENT, REMAINDER = 127773, 2836  # MODULUS = MULTIPLIER * QUOTIENT + REMAINDER (Schrage)
PLACES = 32
PLACE_WIDTH = 1 + (MODULUS - 1) // PLACES
LARGEST = 1.0 - 1.2e-7
NORMAL_ABOVE = 1.0e6
LORENTZIAN_FROM = 12.0
LARGEST_MEAN = 1e30  # beyond, single precision overflows
_COMPILE_FROM = 20_000  # deviates; compiling takes about two seconds, the plain functions 15 us a deviate
_GAMMA = (
    76.18009172947146,
    -86.50532032941677,
    24.01409824083091,
    -1.231739572450155,
    0.1208650973866179e-2,
    -0.5395239384953e-5,
)  # Lanczos' coefficients as the C program has them


class Ran1:
    """The stream of uniform deviates that the C program draws for ``-seed``, ``-mosaic_seed`` or ``-misset_seed``.

    Parameters
    ----------
    seed : int
        The number given to the option, 0 to 2147483647 (0 counts as 1, as in C, which is called with its negative).

    Raises
    ------
    InputError
        If the seed is not such a number. (The C program takes a negative one, and then continues another stream.)

    Examples
    --------
    >>> stream = Ran1(42)
    >>> stream.uniform()
    0.4719730019569397
    >>> stream.uniforms(2)
    array([0.5390094, 0.737019 ], dtype=float32)
    """

    def __init__(self, seed: int) -> None:
        number = require_finite("seed", seed)
        if number.ndim or number != math.floor(number) or not 0 <= number <= MODULUS:
            raise InputError(f"seed = {str(seed)[:40]}: a whole number from 0 to {MODULUS} is needed")
        self._state = np.zeros(2 + PLACES, np.int64)  # the number, the last shuffled one, the places
        self._state[0] = -int(number)
        self._spare = np.zeros(2, np.float32)  # whether a normal deviate is left, and which

    def uniform(self) -> float:
        """Return the next deviate, 0 <= u < 1, a float32 number as a Python float."""
        return float(_uniform(self._state))

    def uniforms(self, count: int) -> np.ndarray:
        """Return the next `count` deviates as float32."""
        return np.array([_uniform(self._state) for _ in range(count)], np.float32)


def gaussian(rng: Ran1) -> float:
    """Return the next normal deviate of `rng` (mean 0, standard deviation 1); every second one draws anew.

    Examples
    --------
    >>> gaussian(Ran1(42))
    2.486056089401245
    """
    return float(_gaussian(rng._state, rng._spare))


def poisson(rng: Ran1, mean: float) -> float:
    """Return the next Poisson deviate of `rng`; above a mean of 1e6 it is normal and not whole.

    Parameters
    ----------
    rng : Ran1
        The stream; an unknown number of its deviates is used up.
    mean : float
        >= 0; rounded to float32 first, as the C program does.

    Raises
    ------
    InputError
        If the mean is not finite or negative.

    Examples
    --------
    >>> rng = Ran1(42)
    >>> [poisson(rng, 3.5) for _ in range(4)]
    [5.0, 2.0, 0.0, 3.0]
    """
    return float(_poisson(_checked(mean).astype(np.float32)[()], rng._state, rng._spare))


def poisson_deviates(rng: Ran1, means: np.ndarray) -> np.ndarray:
    """Return one Poisson deviate for each mean, drawn in C order.

    Parameters
    ----------
    rng : Ran1
        The stream.
    means : array_like
        Any shape, >= 0; rounded to float32 first.

    Returns
    -------
    ndarray of float32
        Of the shape of `means`.

    Raises
    ------
    InputError
        If a mean is not finite or negative.

    Examples
    --------
    >>> poisson_deviates(Ran1(17), [[0.0, 5.0], [50.0, 5e4]])
    array([[0.0000e+00, 8.0000e+00],
           [4.6000e+01, 5.0076e+04]], dtype=float32)
    """
    given = _checked(means).astype(np.float32)
    deviates = np.empty(given.size, np.float32)
    fill = _fill_poisson if given.size < _COMPILE_FROM else _compiled()
    fill(given.ravel(), deviates, rng._state, rng._spare)
    return deviates.reshape(given.shape)


def _checked(means: Any) -> np.ndarray:
    array = require_finite("mean photons", means)
    if array.size and (array.min() < 0 or array.max() > LARGEST_MEAN):
        bad = array.min() if array.min() < 0 else array.max()
        raise InputError(f"mean photons = {bad:g}: must be >= 0 and <= {LARGEST_MEAN:g}")
    return array


# What follows is compiled as it stands: explicit casts, because Python, NumPy and numba promote float32 differently.


def _uniform(state):
    if state[0] <= 0 or state[1] == 0:
        state[0] = 1 if -state[0] < 1 else -state[0]
        for place in range(PLACES + 7, -1, -1):  # eight numbers are dropped
            _advance(state)
            if place < PLACES:
                state[2 + place] = state[0]
        state[1] = state[2]
    _advance(state)
    place = state[1] // PLACE_WIDTH
    state[1] = state[2 + place]
    state[2 + place] = state[0]
    value = np.float32((1.0 / MODULUS) * float(state[1]))
    return np.float32(LARGEST) if float(value) > LARGEST else value


def _advance(state):
    quotient = state[0] // QUOTIENT
    state[0] = MULTIPLIER * (state[0] - quotient * QUOTIENT) - REMAINDER * quotient
    if state[0] < 0:
        state[0] += MODULUS


def _gaussian(state, spare):
    if spare[0] != 0:
        spare[0] = 0
        return spare[1]
    while True:
        v1 = np.float32(2.0 * float(_uniform(state)) - 1.0)
        v2 = np.float32(2.0 * float(_uniform(state)) - 1.0)
        square = np.float32(np.float32(v1 * v1) + np.float32(v2 * v2))
        if square < 1.0 and square != 0.0:
            break
    factor = np.float32(math.sqrt(-2.0 * math.log(float(square)) / float(square)))
    spare[0] = 1
    spare[1] = np.float32(v1 * factor)
    return np.float32(v2 * factor)


def _log_gamma(x):
    x = float(x)
    base = x + 5.5
    base = base - (x + 0.5) * math.log(base)
    series = 1.000000000190015
    y = x
    for coefficient in _GAMMA:
        y = y + 1.0
        series = series + coefficient / y
    return np.float32(-base + math.log(2.5066282746310005 * series / x))


def _poisson(mean, state, spare):
    if mean > NORMAL_ABOVE:
        return np.float32(float(mean) + math.sqrt(float(mean)) * float(_gaussian(state, spare)))
    if mean < LORENTZIAN_FROM:
        return _poisson_small(mean, state)
    width = np.float32(math.sqrt(2.0 * float(mean)))
    log_mean = np.float32(math.log(float(mean)))
    peak = np.float32(np.float32(mean * log_mean) - _log_gamma(np.float32(float(mean) + 1.0)))
    while True:
        count = np.float32(-1.0)
        while count < 0.0:
            y = np.float32(math.tan(math.pi * float(_uniform(state))))
            count = np.float32(np.float32(width * y) + mean)
        count = np.float32(math.floor(float(count)))
        exponent = np.float32(np.float32(count * log_mean) - _log_gamma(np.float32(float(count) + 1.0)))
        exponent = np.float32(exponent - peak)
        ratio = np.float32(0.9 * (1.0 + float(np.float32(y * y))) * math.exp(float(exponent)))
        if _uniform(state) <= ratio:
            return count


def _poisson_small(mean, state):
    limit = np.float32(math.exp(-float(mean)))
    count = np.float32(0.0)
    product = _uniform(state)
    while product > limit:
        count = np.float32(count + np.float32(1.0))
        product = np.float32(product * _uniform(state))
    return count


def _fill_poisson(means, deviates, state, spare):
    for index in range(means.size):
        deviates[index] = _poisson(means[index], state, spare)


@functools.cache
def _compiled() -> Callable[..., None]:
    """Compile the functions above, callees first; without fast-math flags, numba keeps every rounding."""
    import numba

    names = dict(globals())
    for item in (_advance, _uniform, _gaussian, _log_gamma, _poisson_small, _poisson, _fill_poisson):
        names[item.__name__] = numba.njit(FunctionType(item.__code__, names, item.__name__), nogil=True)
    return names["_fill_poisson"]
