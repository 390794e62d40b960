"""The zonal model on blocks of voxels, for `kernel.Kernels`: h(c)^2, h = sum_l a_l P_l(c); fields a_0, a_2, ..., u.

h is a polynomial in y = c^2, whose coefficients b = P a are made once a block. P_l(c) = sum_k LEGENDRE[l/2, k] c^(2k).
How many coefficients there are is compiled in, as TERMS: loops over them unroll, and those over voxels run in vectors.
"""

from __future__ import annotations

import functools
from types import FunctionType

import numpy as np

from exactgrad.kernels.compile import inlined
from exactgrad.tomography.kernel import BLOCK, Kernels

HIGHEST = 12
LEGENDRE = np.zeros((HIGHEST // 2 + 1, HIGHEST // 2 + 1))
for _term in range(len(LEGENDRE)):
    LEGENDRE[_term, : _term + 1] = np.polynomial.legendre.leg2poly(np.eye(2 * _term + 1)[-1])[::2]


TERMS = 1  # of a kernel's own: see `kernels_of`


@inlined
def make_powers(lane, terms, width, b):
    """Set b (terms, BLOCK) to the coefficients of c^(2k)."""
    for k in range(terms):
        for n in range(width):
            b[k, n] = 0.0
        for term in range(k, terms):
            for n in range(width):
                b[k, n] += LEGENDRE[term, k] * lane[term, n]


@inlined
def series(b, terms, y, width, h):
    """Set h (3, BLOCK) to the polynomial of y with coefficients b, and its two derivatives."""
    for n in range(width):
        value, slope, bend = 0.0, 0.0, 0.0
        for k in range(terms - 1, -1, -1):
            bend = bend * y[n] + 2.0 * slope
            slope = slope * y[n] + value
            value = value * y[n] + b[k, n]
        h[0, n], h[1, n], h[2, n] = value, slope, bend


@inlined
def cosines(lane, terms, x, y, z, width, c, square):
    """Set c to u . q and its square."""
    for n in range(width):
        c[n] = x * lane[terms, n] + y * lane[terms + 1, n] + z * lane[terms + 2, n]
        square[n] = c[n] * c[n]


@inlined
def pull_powers(sums, terms, width, out):
    """Set the derivatives by a from those by b."""
    for term in range(terms):
        for n in range(width):
            out[term, n] = 0.0
        for k in range(term + 1):
            for n in range(width):
                out[term, n] += LEGENDRE[term, k] * sums[k, n]


def density(lane, q, share, width, work, tile):
    """Add to the tile the density."""
    terms = TERMS
    b, h, c, y = work[:terms], work[terms : terms + 3], work[terms + 3], work[terms + 4]
    make_powers(lane, terms, width, b)
    for g in range(share.size):
        for s in range(q.shape[2]):
            cosines(lane, terms, q[g, 0, s], q[g, 1, s], q[g, 2, s], width, c, y)
            series(b, terms, y, width, h)
            for n in range(width):
                tile[s * BLOCK + n] += share[g] * h[0, n] * h[0, n]


def density_tangent(lane, change, q, share, width, work, tile):
    """Add to the tile the change of the density."""
    terms = TERMS
    b, db, h, dh = work[:terms], work[terms : 2 * terms], work[2 * terms : 2 * terms + 3], work[2 * terms + 3 :]
    c, y, dc = work[2 * terms + 6], work[2 * terms + 7], work[2 * terms + 8]
    make_powers(lane, terms, width, b)
    make_powers(change, terms, width, db)
    for g in range(share.size):
        for s in range(q.shape[2]):
            cosines(change, terms, q[g, 0, s], q[g, 1, s], q[g, 2, s], width, dc, y)
            cosines(lane, terms, q[g, 0, s], q[g, 1, s], q[g, 2, s], width, c, y)
            series(b, terms, y, width, h)
            series(db, terms, y, width, dh)
            for n in range(width):
                growth = dh[0, n] + 2.0 * c[n] * h[1, n] * dc[n]
                tile[s * BLOCK + n] += 2.0 * share[g] * h[0, n] * growth


def cotangent(lane, q, share, width, work, tile, out):
    """Set `out` to the derivative by the fields."""
    terms = TERMS
    b, sums, h = work[:terms], work[terms : 2 * terms], work[2 * terms : 2 * terms + 3]
    c, y = work[2 * terms + 3], work[2 * terms + 4]
    make_powers(lane, terms, width, b)
    sums[:] = 0.0  # of t y^k, t the derivative by h
    out[:] = 0.0
    for g in range(share.size):
        for s in range(q.shape[2]):
            x1, x2, x3 = q[g, 0, s], q[g, 1, s], q[g, 2, s]
            cosines(lane, terms, x1, x2, x3, width, c, y)
            series(b, terms, y, width, h)
            for n in range(width):
                t = 2.0 * share[g] * tile[s * BLOCK + n] * h[0, n]
                by_c = 2.0 * t * h[1, n] * c[n]
                out[terms, n] += by_c * x1
                out[terms + 1, n] += by_c * x2
                out[terms + 2, n] += by_c * x3
                for k in range(terms):
                    sums[k, n] += t
                    t *= y[n]
    pull_powers(sums, terms, width, out)


def cotangent_tangent(lane, change, q, share, width, work, tile, tile_change, out):
    """Set `out` to the change of that derivative."""
    terms = TERMS
    b, db, sums = work[:terms], work[terms : 2 * terms], work[2 * terms : 3 * terms]
    rest = work[3 * terms :]
    h, dh, c, y, dc = rest[:3], rest[3:6], rest[6], rest[7], rest[8]
    make_powers(lane, terms, width, b)
    make_powers(change, terms, width, db)
    sums[:] = 0.0  # of the changes of t y^k
    out[:] = 0.0
    for g in range(share.size):
        for s in range(q.shape[2]):
            x1, x2, x3 = q[g, 0, s], q[g, 1, s], q[g, 2, s]
            cosines(change, terms, x1, x2, x3, width, dc, y)
            cosines(lane, terms, x1, x2, x3, width, c, y)
            series(b, terms, y, width, h)
            series(db, terms, y, width, dh)
            for n in range(width):
                twice, dy = 2.0 * share[g], 2.0 * c[n] * dc[n]
                cotangent, moved = tile[s * BLOCK + n], tile_change[s * BLOCK + n]
                t = twice * cotangent * h[0, n]
                dt = twice * (moved * h[0, n] + cotangent * (dh[0, n] + h[1, n] * dy))
                by_c = 2.0 * ((dt * h[1, n] + t * (dh[1, n] + h[2, n] * dy)) * c[n] + t * h[1, n] * dc[n])
                out[terms, n] += by_c * x1
                out[terms + 1, n] += by_c * x2
                out[terms + 2, n] += by_c * x3
                for k in range(terms):
                    sums[k, n] += dt
                    dt = dt * y[n] + t * dy
                    t *= y[n]
    pull_powers(sums, terms, width, out)


@functools.cache
def kernels_of(terms: int) -> Kernels:
    """Return the kernels of so many coefficients, one for each number."""
    names = globals() | {"TERMS": terms}
    functions = (density, density_tangent, cotangent, cotangent_tangent)
    return Kernels(f"zonal_{terms}", *(FunctionType(one.__code__, names, one.__name__) for one in functions))
