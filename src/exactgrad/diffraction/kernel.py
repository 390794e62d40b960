"""The image of a crystal, fused for speed: the sum over lattices of F(h)^2 L(h - round(h))^2, and all around it.

`model.py` holds the same equations stage by stage. `diffracted` is the sum alone, for samples at given q;
`flat_detector` is all that a pixel sees.

Layout: samples (one sub-pixel and source of a pixel) lie in blocks of lanes; the lattices are the loop around them, so
that the innermost loops run over lanes and vectorise. Nothing in them branches or calls a library: sines and the
exponential are polynomials on a reduced range. A loop is a short stage: a processor looks only so far ahead, and one
turn of a loop over all of a grating would be longer. Lattices are summed in their order, each sample by itself.

Whole indices are taken off before anything is multiplied by the number of cells, so what is lost at large h is the
rounding of h alone. Halfway between two reflections h goes down, as in the model and the C program.

L is given without its constant factor (Na Nb Nc and so on), which the caller applies. A spot's radius is
|off B|, with B holding the metric, the cells and the shape's width. Units: q in 1/m, lattices in metres.
"""

from __future__ import annotations

import numpy as np

from exactgrad.kernels.compile import as_tuple, compiled, inlined, scalar

LANES = 64
SQUARE, ROUND, GAUSS, TOPHAT = range(4)
NO_ZERO = 1e-100  # stands for zero where a ratio would be 0/0; its limit is as exact there
DIMMEST = 745.0  # exp(-745) is the smallest double; beyond, a spot is as dim as there
# Rows of a block's lanes: the sum over lattices, a pixel's rays, and what the C program takes once a pixel.
ROWS = 28
Q1, Q2, Q3, SPOT, H1, H2, H3, TOTAL = range(0, 8 * LANES, LANES)
FAST_INDEX, SLOW_INDEX, D1, D2, D3, PER_M, COSINE, FACTOR, LIT, MEAN = range(8 * LANES, 18 * LANES, LANES)
ANGLE, POLARIZED, CAUGHT, FOUND = range(18 * LANES, 22 * LANES, LANES)
X1, X2, X3, T1, T2, T3 = range(22 * LANES, ROWS * LANES, LANES)  # of the three gratings
# Places in what describes a detector and what surrounds it; lengths in metres. Up to C_WATER they may be refined.
ORIGIN, FAST, SLOW, NORMAL, LAYER, ATTENUATION, KAHN, WATER, SCALE, C_WATER = 0, 3, 6, 9, 12, 13, 14, 15, 16, 17
STEP, D_MIN_SQUARED, CURVED, ONCE = 18, 19, 20, 21
# Switches: the solid angle is [22] + ([23] + [24] cos + [25] (origin.normal)/R)/R^2.
NO_SOLID_ANGLE, FACING, OBLIQUITY, CLOSE, NO_POLARIZATION, POLARIZATION, CAPTURES = range(22, 29)
# The same switches for what is taken once a pixel (if ONCE): from its first sample, and from its last layer.
AT_FIRST, AT_LAST, GEOMETRY = 29, 36, 43
# Places in what describes a source.
RAY, PER_WAVELENGTH, SHARE, FIELD_E, FIELD_B, SOURCE = 0, 3, 4, 5, 8, 11
# The type of the arguments `lattices` ... `interpolate`.
CRYSTAL = "float64[:, ::1], int64, float64[::1], float64[::1], float64[::1], float64[::1], float64[::1], float64, int64"


@inlined
def lattice_row(lattices, m):
    """The nine numbers of a lattice. (A view of a row would be counted, as objects are, at every turn of a loop.)"""
    return (
        lattices[m, 0], lattices[m, 1], lattices[m, 2], lattices[m, 3], lattices[m, 4], lattices[m, 5], lattices[m, 6],
        lattices[m, 7], lattices[m, 8],
    )  # fmt: skip


@inlined
def source_row(sources, j):
    """The numbers of a source."""
    return (
        sources[j, 0], sources[j, 1], sources[j, 2], sources[j, 3], sources[j, 4], sources[j, 5], sources[j, 6],
        sources[j, 7], sources[j, 8], sources[j, 9], sources[j, 10],
    )  # fmt: skip


@scalar
def sine_over(y):
    """sin(pi x)/x at y = x^2 <= 1/4; Chebyshev fit, 1.8e-16."""
    p = -2.1133627352052970e-5 * y + 4.6598701580433780e-4
    p = (p * y - 7.3703643265304157e-3) * y + 8.2145878816310427e-2
    p = (p * y - 5.9926452882522401e-1) * y + 2.5501640398618676
    return (p * y - 5.1677127800497858) * y + 3.1415926535897929


@scalar
def cosine(y):
    """cos(pi x) at y = x^2 <= 1/4; Chebyshev fit, 4e-18."""
    p = 4.1495643539425855e-6 * y - 1.0456655338748738e-4
    p = (p * y + 1.9295562724817131e-3) * y - 2.5806888737006922e-2
    p = (p * y + 2.3533063012953285e-1) * y - 1.3352627688434471
    return ((p * y + 4.0587121264164970) * y - 4.9348022005446768) * y + 1.0


@scalar
def decay(x):
    """exp(-x) for 0 <= x <= 745: a Chebyshev fit at x/512, squared nine times; to 1e-12."""
    z = x * (1.0 / 512.0)
    p = -7.8267907628938126e-11 * z + 1.7591214613095002e-9
    p = (p * z - 2.4228635653771006e-8) * z + 2.7418687618960430e-7
    p = (p * z - 2.7541074496797082e-6) * z + 2.4800241336223660e-5
    p = (p * z - 1.9841190909466402e-4) * z + 1.3888885653076166e-3
    p = (p * z - 8.3333332430958332e-3) * z + 4.1666666650337052e-2
    p = (p * z - 1.6666666666489421e-1) * z + 4.9999999999989950e-1
    p = (p * z - 9.9999999999999775e-1) * z + 1.0
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return p * p


@scalar
def nearest(x):
    """The nearest whole number; halfway goes down."""
    return np.ceil(x - 0.5)


@scalar
def ball(u):
    """|3 (sin x/x - cos x)/x^2| at x = pi sqrt(u): a sphere's transform, but for its sign."""
    near = u < 0.025  # x^2 < 0.25
    y = 9.8696044010893586 * u
    p = -5.7572145999364047e-9 * y + 7.5155649428909456e-7
    p = (p * y - 6.6137565261884747e-5) * y + 3.5714285713772700e-3
    series = (p * y - 1.0e-1) * y + 1.0
    u = 1.0 if near else u
    y = 9.8696044010893586 * u
    t = np.sqrt(u)
    r = t - nearest(t)
    return series if near else 3.0 * (r * sine_over(r * r) / (3.1415926535897932 * t) - cosine(r * r)) / y


@scalar
def offsets(lane, i, m):
    """h - round(h) of one sample and lattice; round(h) is left in the lanes."""
    q1, q2, q3 = lane[Q1 + i], lane[Q2 + i], lane[Q3 + i]
    h = m[0] * q1 + m[1] * q2 + m[2] * q3
    k = m[3] * q1 + m[4] * q2 + m[5] * q3
    l = m[6] * q1 + m[7] * q2 + m[8] * q3
    h0, k0, l0 = nearest(h), nearest(k), nearest(l)
    lane[H1 + i], lane[H2 + i], lane[H3 + i] = h0, k0, l0
    return h - h0, k - k0, l - l0


@scalar
def squared_radius(form, x, y, z):
    """|off B|^2, with the rows of B in `form`."""
    r1 = x * form[0] + y * form[3] + z * form[6]
    r2 = x * form[1] + y * form[4] + z * form[7]
    r3 = x * form[2] + y * form[5] + z * form[8]
    return r1 * r1 + r2 * r2 + r3 * r3


@inlined
def phases(lane, m, cells):
    """The phases of the three gratings, in half turns: x off the nearest whole, and cells times x, reduced as well.

    A ratio of theirs is sin(pi t)/sin(pi x), but for its sign. Where x is zero it is next to nothing instead.
    """
    for i in range(LANES):
        x, y, z = offsets(lane, i, m)
        x, y, z = (
            NO_ZERO if abs(x) < NO_ZERO else x,
            NO_ZERO if abs(y) < NO_ZERO else y,
            NO_ZERO if abs(z) < NO_ZERO else z,
        )
        t1, t2, t3 = cells[0] * x, cells[1] * y, cells[2] * z
        lane[X1 + i], lane[X2 + i], lane[X3 + i] = x, y, z
        lane[T1 + i], lane[T2 + i], lane[T3 + i] = t1 - np.rint(t1), t2 - np.rint(t2), t3 - np.rint(t3)


@scalar
def square_spots(lane, m, cells):
    """L^2 of a parallelepiped of cells."""
    phases(lane, m, cells)
    for i in range(6 * LANES):
        x = lane[X1 + i]
        lane[X1 + i] = x * sine_over(x * x)
    for i in range(LANES):
        ratio = lane[T1 + i] * lane[T2 + i] * lane[T3 + i] / (lane[X1 + i] * lane[X2 + i] * lane[X3 + i])
        lane[SPOT + i] = ratio * ratio


@scalar
def round_spots(lane, m, form):
    """L^2 of an ellipsoid of cells."""
    for i in range(LANES):
        x, y, z = offsets(lane, i, m)
        spot = ball(squared_radius(form, x, y, z))
        lane[SPOT + i] = spot * spot


@scalar
def gauss_spots(lane, m, form):
    """L^2 of Gaussian spots."""
    for i in range(LANES):
        x, y, z = offsets(lane, i, m)
        spot = decay(min(squared_radius(form, x, y, z), DIMMEST))
        lane[SPOT + i] = spot * spot


@scalar
def tophat_spots(lane, m, form):
    """L^2 of spots with an edge: what rounds to the edge or beyond is out."""
    for i in range(LANES):
        x, y, z = offsets(lane, i, m)
        lane[SPOT + i] = 1.0 if squared_radius(form, x, y, z) < 1.0 else 0.0


@scalar
def of_source(table, sides, source):
    """A source's own part of the table, or all of it where the sources share one."""
    entries = np.int64(sides[0] * sides[1] * sides[2])
    first = source * entries if table.size > entries else 0
    return table[first : first + entries]


@scalar
def find_places(lane, lowest, sides):
    """Leave each lane's place in the table (h slowest) in the row of h; -1 outside it."""
    for i in range(LANES):
        h, k, l = lane[H1 + i] - lowest[0], lane[H2 + i] - lowest[1], lane[H3 + i] - lowest[2]
        inside = (h >= 0.0) & (h < sides[0]) & (k >= 0.0) & (k < sides[1]) & (l >= 0.0) & (l < sides[2])
        # Whole numbers below 2^53, so the place is exact; a table has fewer entries than an int32 can number.
        lane[H1 + i] = (h * sides[1] + k) * sides[2] + l if inside else -1.0


@scalar
def cubic(x):
    """Weights of the points -1, 0, 1, 2 in the cubic through them, at x in [0, 1)."""
    return (
        -x * (x - 1.0) * (x - 2.0) / 6.0,
        (x + 1.0) * (x - 1.0) * (x - 2.0) / 2.0,
        -(x + 1.0) * x * (x - 2.0) / 2.0,
        (x + 1.0) * x * (x - 1.0) / 6.0,
    )


@scalar
def fractional(lane, i, m):
    """(h, k, l) of one sample and lattice, before rounding."""
    q1, q2, q3 = lane[Q1 + i], lane[Q2 + i], lane[Q3 + i]
    return (
        m[0] * q1 + m[1] * q2 + m[2] * q3,
        m[3] * q1 + m[4] * q2 + m[5] * q3,
        m[6] * q1 + m[7] * q2 + m[8] * q3,
    )


@scalar
def surrounded(h, k, l, lowest, sides):
    """Whether four points along each axis are at hand, with one to spare at the upper side."""
    in_h = (h >= lowest[0] + 2.0) & (h <= lowest[0] + sides[0] - 3.0)
    in_k = (k >= lowest[1] + 2.0) & (k <= lowest[1] + sides[1] - 3.0)
    return in_h & in_k & (l >= lowest[2] + 2.0) & (l <= lowest[2] + sides[2] - 3.0)


@scalar
def corner(h, k, l, lowest, sides):
    """The place in the table of the first of the 64 points around (h, k, l)."""
    first = (np.floor(h) - lowest[0] - 1.0) * sides[1] + (np.floor(k) - lowest[1] - 1.0)
    return np.int64(first * sides[2] + (np.floor(l) - lowest[2] - 1.0))


@scalar
def tricubic(table, first, sides, u, v, w):
    """Sum of the 64 points from `first` on, with weights u, v, w along the axes."""
    rows, columns = np.int64(sides[1]), np.int64(sides[2])
    total = 0.0
    for a in range(4):
        for b in range(4):
            at = first + (a * rows + b) * columns
            line = w[0] * table[at] + w[1] * table[at + 1] + w[2] * table[at + 2] + w[3] * table[at + 3]
            total += u[a] * v[b] * line
    return total


@scalar
def add_interpolated(lane, m, table, lowest, sides, default):
    """Add F^2 L^2 to the totals, F a cubic through four points along each axis, of the nearest at the table's rim."""
    for i in range(LANES):
        h, k, l = fractional(lane, i, m)
        place = np.int64(lane[H1 + i])
        f = table[max(place, 0)] if place >= 0 else default
        if surrounded(h, k, l, lowest, sides):
            u, v, w = cubic(h - np.floor(h)), cubic(k - np.floor(k)), cubic(l - np.floor(l))
            f = tricubic(table, corner(h, k, l, lowest, sides), sides, u, v, w)
        lane[TOTAL + i] += f * f * lane[SPOT + i]


@scalar
def add_weighted(lane, table, default):
    """Add F^2 L^2 to the totals, F from the table or the default outside it."""
    for i in range(LANES):
        place = np.int32(lane[H1 + i])
        f = table[max(place, 0)] if place >= 0 else default
        lane[TOTAL + i] += f * f * lane[SPOT + i]


@scalar
def add_lattices(lane, lattices, shape, cells, form, table, lowest, sides, default, interpolate):
    """Put the sum of F^2 L^2 over the lattices at the q of each lane into TOTAL."""
    for i in range(LANES):
        lane[TOTAL + i] = 0.0
    for j in range(lattices.shape[0]):
        m = lattice_row(lattices, j)
        if shape == SQUARE:
            square_spots(lane, m, cells)
        elif shape == ROUND:
            round_spots(lane, m, form)
        elif shape == GAUSS:
            gauss_spots(lane, m, form)
        else:
            tophat_spots(lane, m, form)
        if table.size:
            find_places(lane, lowest, sides)
            if interpolate:
                add_interpolated(lane, m, table, lowest, sides, default)
            else:
                add_weighted(lane, table, default)
        else:
            for i in range(LANES):
                lane[TOTAL + i] += default * default * lane[SPOT + i]


@compiled(f"void(float64[:, ::1], {CRYSTAL}, float64[::1])")
def diffracted(q, lattices, shape, cells, form, table, lowest, sides, default, interpolate, total):
    """Sum of F^2 L^2 over the lattices, for every sample.

    q (n, 3): scattering vectors. lattices (M, 9): rows a, b, c. shape: of `SQUARE`...; cells (3,) for the square,
    form (9,) for the others. table (H K L,) or of no size, lowest (3,), sides (3,), default: F; total (n,): out.
    Where sources come in, the table may be (S H K L,), each source's own.
    """
    lane, cells, form = np.zeros(LANES * ROWS), as_tuple(cells, 3), as_tuple(form, 9)
    for start in range(0, q.shape[0], LANES):
        width = min(LANES, q.shape[0] - start)
        for i in range(width):
            lane[Q1 + i], lane[Q2 + i], lane[Q3 + i] = q[start + i, 0], q[start + i, 1], q[start + i, 2]
        add_lattices(lane, lattices, shape, cells, form, table, lowest, sides, default, interpolate)
        for i in range(width):
            total[start + i] = lane[TOTAL + i]


@inlined
def rays(lane, width, g, depth, sub_fast, sub_slow):
    """Directions of one sub-pixel of each lane's pixel on a flat sensor, and their cosine of incidence."""
    x0, y0, z0 = (
        g[ORIGIN] + depth * g[NORMAL],
        g[ORIGIN + 1] + depth * g[NORMAL + 1],
        g[ORIGIN + 2] + depth * g[NORMAL + 2],
    )
    for i in range(width):
        f, s = g[STEP] * (lane[FAST_INDEX + i] + sub_fast), g[STEP] * (lane[SLOW_INDEX + i] + sub_slow)
        x = x0 + f * g[FAST] + s * g[SLOW]
        y = y0 + f * g[FAST + 1] + s * g[SLOW + 1]
        z = z0 + f * g[FAST + 2] + s * g[SLOW + 2]
        per_m = 1.0 / np.sqrt(x * x + y * y + z * z)
        x, y, z = x * per_m, y * per_m, z * per_m
        lane[D1 + i], lane[D2 + i], lane[D3 + i], lane[PER_M + i] = x, y, z, per_m
        lane[COSINE + i] = x * g[NORMAL] + y * g[NORMAL + 1] + z * g[NORMAL + 2]


@inlined
def close_distance(g):
    """Distance from the crystal to the sensor's plane, along its normal."""
    return g[ORIGIN] * g[NORMAL] + g[ORIGIN + 1] * g[NORMAL + 1] + g[ORIGIN + 2] * g[NORMAL + 2]


@inlined
def arcs(lane, i, g, close, sub_fast, sub_slow):
    """Angles, along fast and then along slow, of one sub-pixel on a sensor bent to a sphere around the crystal."""
    f, s = g[STEP] * (lane[FAST_INDEX + i] + sub_fast), g[STEP] * (lane[SLOW_INDEX + i] + sub_slow)
    f += g[ORIGIN] * g[FAST] + g[ORIGIN + 1] * g[FAST + 1] + g[ORIGIN + 2] * g[FAST + 2]
    s += g[ORIGIN] * g[SLOW] + g[ORIGIN + 1] * g[SLOW + 1] + g[ORIGIN + 2] * g[SLOW + 2]
    return f / close, s / close


@scalar
def curved_rays(lane, width, g, depth, sub_fast, sub_slow):
    """Directions of one sub-pixel of each lane's pixel on a curved sensor, which they meet at right angles."""
    close = close_distance(g)
    for i in range(width):
        along, across = arcs(lane, i, g, close, sub_fast, sub_slow)
        to_fast, to_normal, to_slow = np.sin(along), np.cos(along) * np.cos(across), np.cos(along) * np.sin(across)
        lane[D1 + i] = to_fast * g[FAST] + to_normal * g[NORMAL] + to_slow * g[SLOW]
        lane[D2 + i] = to_fast * g[FAST + 1] + to_normal * g[NORMAL + 1] + to_slow * g[SLOW + 1]
        lane[D3 + i] = to_fast * g[FAST + 2] + to_normal * g[NORMAL + 2] + to_slow * g[SLOW + 2]
        lane[PER_M + i], lane[COSINE + i] = 1.0 / (close + depth), 1.0


@inlined
def correct(lane, width, g, layer):
    """Solid angle and captured share of each lane's ray; the library's exponential, once a sample."""
    close = g[CLOSE] * close_distance(g)
    for i in range(width):
        lane[FACTOR + i] = g[NO_SOLID_ANGLE]
    if g[NO_SOLID_ANGLE] == 0.0:
        for i in range(width):
            per_m = lane[PER_M + i]
            seen_as = g[FACING] + g[OBLIQUITY] * lane[COSINE + i] + close * per_m
            lane[FACTOR + i] = seen_as * per_m * per_m
    if g[CAPTURES] > 0.0:
        for i in range(width):
            u = g[ATTENUATION] / lane[COSINE + i]
            lane[FACTOR + i] *= -np.exp(-layer * u) * np.expm1(-u)


@scalar
def trace_rays(lane, width, g, layer, sub_fast, sub_slow):
    """All that a sample's rays have before they know of a source."""
    if g[CURVED] > 0.0:
        curved_rays(lane, width, g, layer * g[LAYER], sub_fast, sub_slow)
    else:
        rays(lane, width, g, layer * g[LAYER], sub_fast, sub_slow)
    correct(lane, width, g, layer)


@inlined
def scatter(lane, width, source):
    """q = (d - s0)/lambda of each lane."""
    for i in range(width):
        lane[Q1 + i] = (lane[D1 + i] - source[RAY]) * source[PER_WAVELENGTH]
        lane[Q2 + i] = (lane[D2 + i] - source[RAY + 1]) * source[PER_WAVELENGTH]
        lane[Q3 + i] = (lane[D3 + i] - source[RAY + 2]) * source[PER_WAVELENGTH]


@inlined
def polarized(lane, i, g, source):
    """(Polarization factor, forward, e, b) of a lane's ray, with the last three its components along the source's."""
    x, y, z = lane[D1 + i], lane[D2 + i], lane[D3 + i]
    forward = x * source[RAY] + y * source[RAY + 1] + z * source[RAY + 2]
    e = x * source[FIELD_E] + y * source[FIELD_E + 1] + z * source[FIELD_E + 2]
    b = x * source[FIELD_B] + y * source[FIELD_B + 1] + z * source[FIELD_B + 2]
    factor = g[NO_POLARIZATION] + g[POLARIZATION] * (1.0 + forward * forward - g[KAHN] * (e * e - b * b))
    return factor, forward, e, b


@inlined
def within_d_min(lane, i, g):
    """Whether a lane's lattice spacing is not below d_min."""
    q1, q2, q3 = lane[Q1 + i], lane[Q2 + i], lane[Q3 + i]
    return g[D_MIN_SQUARED] * (q1 * q1 + q2 * q2 + q3 * q3) <= 1.0


@scalar
def light(lane, width, g, source):
    """All factors of each lane's ray, into LIT."""
    if g[POLARIZATION] > 0.0:
        for i in range(width):
            lane[LIT + i] = lane[FACTOR + i] * polarized(lane, i, g, source)[0]
    else:
        for i in range(width):
            lane[LIT + i] = lane[FACTOR + i] * g[NO_POLARIZATION]


@inlined
def leave_out(lane, width, g):
    """Set the sums of lanes whose lattice spacing is below d_min to zero."""
    if g[D_MIN_SQUARED] > 0.0:
        for i in range(width):
            lane[TOTAL + i] = lane[TOTAL + i] if within_d_min(lane, i, g) else 0.0


@scalar
def collect(lane, width, g, source):
    """Add what a source scatters into each lane's pixel: within d_min, with water and the factors in LIT."""
    leave_out(lane, width, g)
    for i in range(width):
        lane[MEAN + i] += source[SHARE] * lane[LIT + i] * (g[SCALE] * lane[TOTAL + i] + g[WATER])


@scalar
def load_pixels(lane, width, slow, fast, start, oversample):
    """Put a block's pixels into the lanes, counted in sub-pixels."""
    for i in range(width):
        lane[FAST_INDEX + i], lane[SLOW_INDEX + i] = oversample * fast[start + i], oversample * slow[start + i]
        lane[MEAN + i] = 0.0


@scalar
def sample_of(number, oversample):
    """Layer (from the first on) and place in the pixel, in sub-pixels along slow and fast, of a sample's number."""
    within = number % oversample**2
    return number // oversample**2, within // oversample + 0.5, within % oversample + 0.5


@scalar
def taken_once(lane, width, first, last, oversample, layers, sources):
    """What the C program takes once a pixel, into ANGLE, POLARIZED and CAUGHT.

    The solid angle of the first sample; the polarization of the first within d_min, whose number goes into FOUND
    (-1: none); the share that the last layer captures.
    """
    trace_rays(lane, width, first, 0.0, 0.5, 0.5)
    for i in range(width):
        lane[ANGLE + i], lane[CAUGHT + i], lane[FOUND + i] = lane[FACTOR + i], 1.0, -1.0
        lane[POLARIZED + i] = first[NO_POLARIZATION]
    if first[POLARIZATION] > 0.0:
        find_polarization(lane, width, first, oversample, layers, sources)
    if last[CAPTURES] > 0.0:
        trace_rays(lane, width, last, layers - 1.0, 0.5, 0.5)
        for i in range(width):
            lane[CAUGHT + i] = lane[FACTOR + i]


@scalar
def find_polarization(lane, width, g, oversample, layers, sources):
    """Search each lane's samples, the first of which is traced, for one within d_min."""
    missing = 1.0
    if g[D_MIN_SQUARED] == 0.0:
        source, missing = source_row(sources, 0), 0.0
        for i in range(width):
            lane[POLARIZED + i], lane[FOUND + i] = polarized(lane, i, g, source)[0], 0.0
    for sample in range(layers * oversample * oversample):
        if sample > 0 and missing > 0.0:
            layer, sub_slow, sub_fast = sample_of(sample, oversample)
            trace_rays(lane, width, g, layer, sub_fast, sub_slow)
        for j in range(sources.shape[0]):
            if missing > 0.0:
                source = source_row(sources, j)
                number, missing = np.float64(sample * sources.shape[0] + j), 0.0
                scatter(lane, width, source)
                for i in range(width):
                    factor, _, _, _ = polarized(lane, i, g, source)
                    new = (lane[FOUND + i] < 0.0) & within_d_min(lane, i, g)
                    lane[POLARIZED + i] = factor if new else lane[POLARIZED + i]
                    lane[FOUND + i] = number if new else lane[FOUND + i]
                    missing += 1.0 if lane[FOUND + i] < 0.0 else 0.0


@inlined
def switched(numbers, block):
    """The numbers of a detector with a block of switches in the place of those for every sample."""
    g = numbers[:AT_FIRST].copy()
    g[NO_SOLID_ANGLE:AT_FIRST] = numbers[block : block + AT_FIRST - NO_SOLID_ANGLE]
    return g


@compiled(f"void(int64[::1], int64[::1], int64, int64, float64[::1], float64[:, ::1], {CRYSTAL}, float64[::1])")
def detector_image(
    slow, fast, oversample, layers, g, sources, lattices, shape, cells, form, table, lowest, sides, default,
    interpolate, mean
):  # fmt: skip
    """Sum over layers, sub-pixels and sources of what the pixels of a detector see, times what is taken once a pixel.

    slow, fast (n,): pixels. g (GEOMETRY,) and sources (S, SOURCE): see the names of their places. The crystal's
    arguments are those of `diffracted`. mean (n,): out.
    """
    lane, numbers, g = np.zeros(LANES * ROWS), g, as_tuple(g, AT_FIRST)
    first = as_tuple(switched(numbers, AT_FIRST), AT_FIRST)
    last = as_tuple(switched(numbers, AT_LAST), AT_FIRST)
    cells, form = as_tuple(cells, 3), as_tuple(form, 9)
    for start in range(0, slow.size, LANES):
        width = min(LANES, slow.size - start)
        load_pixels(lane, width, slow, fast, start, oversample)
        for sample in range(layers * oversample * oversample):
            layer, sub_slow, sub_fast = sample_of(sample, oversample)
            trace_rays(lane, width, g, layer, sub_fast, sub_slow)
            for j in range(sources.shape[0]):
                source = source_row(sources, j)
                scatter(lane, width, source)
                listed = of_source(table, sides, j)
                add_lattices(
                    lane, lattices, shape, cells, form, listed, lowest, sides, default, interpolate
                )  # fmt: skip
                light(lane, width, g, source)
                collect(lane, width, g, source)
        if g[ONCE] > 0.0:
            taken_once(lane, width, first, last, oversample, layers, sources)
            for i in range(width):
                lane[MEAN + i] = (
                    (lane[MEAN + i] + g[C_WATER]) * lane[ANGLE + i] * lane[POLARIZED + i] * lane[CAUGHT + i]
                )
        for i in range(width):
            mean[start + i] = lane[MEAN + i]
