"""The image's derivative, fused: the same sums as `kernel.py`, with what every number contributes to them.

`reverse` takes a weight for each pixel (the derivative of a loss by it) and adds the loss's derivative by every number;
`forward` takes how the numbers move with K parameters and gives every pixel's derivative by each. Both make the image
on the way.

What a lattice gives to the sum is F^2 L^2 with L a function of off = h - round(h): the rows BY_F hold half its
derivative by F, E that by off, N by the numbers of cells (square crystals), and U its derivative by |off B|^2 (the
others). Nothing is divided by what can be zero: the grating's derivative comes from the reduced arguments, as its value
does. PIXEL_WEIGHT is the weight of a pixel, WEIGHT that of its sum over samples, which what is taken once a pixel
multiplies.

All lanes of a block are summed over lattices, those beyond its last pixel with no weight. Loops are short stages here
too, not inlined ones in one long function: measured, not guessed.
"""

from __future__ import annotations

import numpy as np

from exactgrad.diffraction.kernel import (
    ANGLE,
    AT_FIRST,
    AT_LAST,
    ATTENUATION,
    C_WATER,
    CAPTURES,
    CAUGHT,
    CLOSE,
    COSINE,
    CRYSTAL,
    CURVED,
    D1,
    D2,
    D3,
    D_MIN_SQUARED,
    DIMMEST,
    FACING,
    FACTOR,
    FAST,
    FAST_INDEX,
    FIELD_B,
    FIELD_E,
    FOUND,
    GAUSS,
    H1,
    KAHN,
    LANES,
    LAYER,
    LIT,
    MEAN,
    NO_POLARIZATION,
    NO_SOLID_ANGLE,
    NORMAL,
    OBLIQUITY,
    ONCE,
    ORIGIN,
    PER_M,
    PER_WAVELENGTH,
    POLARIZATION,
    POLARIZED,
    Q1,
    Q2,
    Q3,
    RAY,
    ROUND,
    ROWS,
    SCALE,
    SHARE,
    SLOW,
    SLOW_INDEX,
    SQUARE,
    STEP,
    T1,
    T2,
    T3,
    TOTAL,
    WATER,
    X1,
    X2,
    X3,
    arcs,
    ball,
    close_distance,
    collect,
    corner,
    cubic,
    decay,
    find_places,
    fractional,
    lattice_row,
    leave_out,
    light,
    load_pixels,
    nearest,
    of_source,
    offsets,
    phases,
    polarized,
    sample_of,
    scatter,
    sine_over,
    source_row,
    squared_radius,
    surrounded,
    switched,
    taken_once,
    trace_rays,
    tricubic,
    within_d_min,
)  # fmt: skip
from exactgrad.kernels.compile import as_tuple, compiled, inlined, scalar

# Rows that only derivatives need, behind those of the image.
MORE_ROWS = 34
# Of each phase of `kernel.phases`, in their order: sine/phase, and what pi cos has more.
SINE_X1, SINE_T1, MORE_X1, MORE_T1 = range(ROWS * LANES, (ROWS + 12) * LANES, 3 * LANES)
E1, E2, E3, N1, N2, N3, U, F, BY_F = range((ROWS + 12) * LANES, (ROWS + 21) * LANES, LANES)
G1, G2, G3 = range((ROWS + 21) * LANES, (ROWS + 24) * LANES, LANES)  # half the derivative of the sum by q
WEIGHT, PIXEL_WEIGHT, CUT, BY_FACTOR = range((ROWS + 24) * LANES, (ROWS + 28) * LANES, LANES)
W1, W2, W3 = range((ROWS + 28) * LANES, (ROWS + 31) * LANES, LANES)  # q, with what the loss weighs it by
B1, B2, B3 = range((ROWS + 31) * LANES, (ROWS + MORE_ROWS) * LANES, LANES)  # by the direction
ALL_ROWS = ROWS + MORE_ROWS
RAY_ROWS = 4  # of one parameter: how direction and factor move


@inlined
def sine_slope(y):
    """(pi cos(pi x) - sin(pi x)/x)/x^2 at y = x^2 <= 1/4; Chebyshev fit, 1e-14 of it."""
    p = -2.9587200157144257e-4 * y + 5.5918932152756800e-3
    p = (p * y - 7.3703673603018346e-2) * y + 6.5716703733494627e-1
    p = (p * y - 3.5955871736119657) * y + 10.20065615947326
    return p * y - 10.335425560099848


@inlined
def ball_slope(u):
    """Derivative of the sphere's transform by u, at x = pi sqrt(u), with the sign that `ball` leaves out."""
    near = u < 0.025
    y = 9.8696044010893586 * u
    p = -1.2800085728008484e-10 * y + 1.9270720072256873e-8
    p = (p * y - 2.0041686536598623e-6) * y + 1.3227513227412604e-4
    series = (p * y - 4.7619047619047403e-3) * y + 6.6666666666666667e-2  # j2(x)/x^2
    u = 1.0 if near else u
    y = 9.8696044010893586 * u
    t = np.sqrt(u)
    r = t - nearest(t)
    sine_over_x = r * sine_over(r * r) / (3.1415926535897932 * t)
    far = (ball(u) - sine_over_x) / y
    return -14.804406601634038 * (series if near else far)


@scalar
def gratings(lane, cells, with_extent):
    """In place of its phases x and n x, each grating's sines; into E and N how their ratio moves with x and n, times
    the square of the sine of x.

    n pi cos(pi n x) sin(pi x) - sin(pi n x) pi cos(pi x) cancels near a reflection: with pi cos as sine/phase + more,
    n x - t is left of it, a whole number that is zero there.
    """
    for i in range(6 * LANES):
        square = lane[X1 + i] * lane[X1 + i]
        lane[SINE_X1 + i], lane[MORE_X1 + i] = sine_over(square), square * sine_slope(square)
    for c in range(3):
        n = cells[c]
        for i in range(c * LANES, (c + 1) * LANES):
            x, sine_x, more_x = lane[X1 + i], lane[SINE_X1 + i], lane[MORE_X1 + i]
            t, sine_t, more_t = lane[T1 + i], lane[SINE_T1 + i], lane[MORE_T1 + i]
            over, under = t * sine_t, x * sine_x
            lane[X1 + i], lane[T1 + i] = under, over
            lane[E1 + i] = np.rint(n * x - t) * sine_t * sine_x + n * more_t * under - over * more_x
            if with_extent:
                lane[N1 + i] = x * (sine_t + more_t) * under


@scalar
def square_slopes(lane, with_extent):
    """Add F^2 L^2 of a parallelepiped of cells; its slopes by F, off and, where wanted, the numbers of cells."""
    for i in range(LANES):
        under1, under2, under3 = lane[X1 + i], lane[X2 + i], lane[X3 + i]
        over1, over2, over3 = lane[T1 + i], lane[T2 + i], lane[T3 + i]
        per, f = 1.0 / (under1 * under2 * under3), lane[F + i]
        ratio = over1 * over2 * over3 * per
        lane[TOTAL + i] += f * f * ratio * ratio
        lane[BY_F + i] = f * ratio * ratio
        # One `per` to each product: the square of it alone could overflow where phases are next to nothing.
        w1, w2, w3 = over1 * under1 * per, over2 * under2 * per, over3 * under3 * per
        ratio *= f * f
        w1, w2, w3 = ratio * w2 * w3, ratio * w1 * w3, ratio * w1 * w2
        lane[E1 + i] *= w1
        lane[E2 + i] *= w2
        lane[E3 + i] *= w3
        if with_extent:
            lane[N1 + i] *= w1
            lane[N2 + i] *= w2
            lane[N3 + i] *= w3


@scalar
def formed_slopes(lane, shape, form):
    """Add F^2 L^2 of the other shapes; its slopes by F, off and u = |off B|^2; a top-hat's edge has none."""
    for i in range(LANES):
        x, y, z = lane[X1 + i], lane[X2 + i], lane[X3 + i]
        u = squared_radius(form, x, y, z)
        if shape == ROUND:
            spot = ball(u)
            slope = 2.0 * spot * ball_slope(u)
            spot *= spot
        elif shape == GAUSS:
            spot = decay(min(u, DIMMEST))
            spot *= spot
            slope = -2.0 * spot if u < DIMMEST else 0.0
        else:
            spot, slope = 1.0 if u < 1.0 else 0.0, 0.0
        f = lane[F + i]
        lane[TOTAL + i] += f * f * spot
        lane[BY_F + i] = f * spot
        slope *= f * f
        lane[U + i] = slope
        r1 = x * form[0] + y * form[3] + z * form[6]
        r2 = x * form[1] + y * form[4] + z * form[7]
        r3 = x * form[2] + y * form[5] + z * form[8]
        lane[E1 + i] = slope * (form[0] * r1 + form[1] * r2 + form[2] * r3)
        lane[E2 + i] = slope * (form[3] * r1 + form[4] * r2 + form[5] * r3)
        lane[E3 + i] = slope * (form[6] * r1 + form[7] * r2 + form[8] * r3)


@scalar
def cubic_slope(x):
    """Derivatives of the weights of `cubic`."""
    return (
        -(3.0 * x * x - 6.0 * x + 2.0) / 6.0,
        (3.0 * x * x - 4.0 * x - 1.0) / 2.0,
        -(3.0 * x * x - 2.0 * x - 2.0) / 2.0,
        (3.0 * x * x - 1.0) / 6.0,
    )


@scalar
def look_up(lane, m, table, lowest, sides, default, interpolate):
    """F of each lane into the row F, and where it lies: the place in the table, -1 outside it, or -2 - the first of
    the 64 places that it is interpolated from."""
    find_places(lane, lowest, sides)
    for i in range(LANES):
        place = np.int32(lane[H1 + i])
        lane[F + i] = table[max(place, 0)] if place >= 0 else default
    if interpolate:
        for i in range(LANES):
            h, k, l = fractional(lane, i, m)
            if surrounded(h, k, l, lowest, sides):
                first = corner(h, k, l, lowest, sides)
                u, v, w = cubic(h - np.floor(h)), cubic(k - np.floor(k)), cubic(l - np.floor(l))
                lane[F + i], lane[H1 + i] = tricubic(table, first, sides, u, v, w), -2.0 - np.float64(first)


@scalar
def add_factor_slopes(lane, m, table, sides):
    """Add what the slope of an interpolated F gives to that by off."""
    for i in range(LANES):
        place = np.int64(lane[H1 + i])
        if place < -1:
            h, k, l = fractional(lane, i, m)
            x, y, z, first = h - np.floor(h), k - np.floor(k), l - np.floor(l), -2 - place
            u, v, w = cubic(x), cubic(y), cubic(z)
            lane[E1 + i] += lane[BY_F + i] * tricubic(table, first, sides, cubic_slope(x), v, w)
            lane[E2 + i] += lane[BY_F + i] * tricubic(table, first, sides, u, cubic_slope(y), w)
            lane[E3 + i] += lane[BY_F + i] * tricubic(table, first, sides, u, v, cubic_slope(z))


@scalar
def add_lattice(lane, m, shape, cells, form, table, lowest, sides, default, interpolate, with_extent):
    """Add one lattice's F^2 L^2 at the q of each lane to the sum, and leave its slopes in their rows."""
    if shape == SQUARE:
        phases(lane, m, cells)
        gratings(lane, cells, with_extent)
    else:
        for i in range(LANES):
            lane[X1 + i], lane[X2 + i], lane[X3 + i] = offsets(lane, i, m)
    if table.size:
        look_up(lane, m, table, lowest, sides, default, interpolate)
    if shape == SQUARE:
        square_slopes(lane, with_extent)
    else:
        formed_slopes(lane, shape, form)
    if interpolate and table.size:
        add_factor_slopes(lane, m, table, sides)


@inlined
def add_slopes(lane, m):
    """Add half the derivative of a lattice's part by q."""
    for i in range(LANES):
        e1, e2, e3 = lane[E1 + i], lane[E2 + i], lane[E3 + i]
        lane[G1 + i] += e1 * m[0] + e2 * m[3] + e3 * m[6]
        lane[G2 + i] += e1 * m[1] + e2 * m[4] + e3 * m[7]
        lane[G3 + i] += e1 * m[2] + e2 * m[5] + e3 * m[8]


@inlined
def begin(default):
    """Make the rows, zero but for F, which stays as it is where there is no table."""
    lane = np.zeros(LANES * ALL_ROWS)
    for i in range(LANES):
        lane[F + i] = default
    return lane


@scalar
def clear_sums(lane, with_rays):
    """Begin the sums over lattices."""
    for i in range(LANES):
        lane[TOTAL + i] = 0.0
    if with_rays:
        for i in range(LANES):
            lane[G1 + i] = lane[G2 + i] = lane[G3 + i] = 0.0


@scalar
def begin_rays(lane, width):
    """Begin the derivative by a sample's directions and factor."""
    for i in range(width):
        lane[B1 + i] = lane[B2 + i] = lane[B3 + i] = lane[BY_FACTOR + i] = 0.0


# -- reverse ----------------------------------------------------------------------------------------------------------


@scalar
def by_lattice(lane, out, m):
    """Add the derivative by a lattice's nine numbers."""
    s11 = s12 = s13 = s21 = s22 = s23 = s31 = s32 = s33 = 0.0
    for i in range(LANES):
        q1, q2, q3 = lane[W1 + i], lane[W2 + i], lane[W3 + i]
        e1, e2, e3 = lane[E1 + i], lane[E2 + i], lane[E3 + i]
        s11, s12, s13 = s11 + e1 * q1, s12 + e1 * q2, s13 + e1 * q3
        s21, s22, s23 = s21 + e2 * q1, s22 + e2 * q2, s23 + e2 * q3
        s31, s32, s33 = s31 + e3 * q1, s32 + e3 * q2, s33 + e3 * q3
    for c, total in enumerate((s11, s12, s13, s21, s22, s23, s31, s32, s33)):
        out[m, c] += total


@scalar
def by_cells(lane, out):
    """Add the derivative by the numbers of cells of a square crystal."""
    s1 = s2 = s3 = 0.0
    for i in range(LANES):
        w = 2.0 * lane[CUT + i]
        s1 += w * lane[N1 + i]
        s2 += w * lane[N2 + i]
        s3 += w * lane[N3 + i]
    out[0] += s1
    out[1] += s2
    out[2] += s3


@scalar
def by_metric(lane, out):
    """Add the derivative by the six entries of the metric B B'."""
    s1 = s2 = s3 = s4 = s5 = s6 = 0.0
    for i in range(LANES):
        w = lane[CUT + i] * lane[U + i]
        x, y, z = lane[X1 + i], lane[X2 + i], lane[X3 + i]
        s1 += w * x * x
        s2 += w * y * y
        s3 += w * z * z
        s4 += w * x * y
        s5 += w * x * z
        s6 += w * y * z
    out[0] += s1
    out[1] += s2
    out[2] += s3
    out[3] += s4
    out[4] += s5
    out[5] += s6


@scalar
def by_factors(lane, m, table, sides, by_table, by_default):
    """Add the derivative by F, of each reflection in the table and of the one value outside it."""
    rows, columns = np.int64(sides[1]), np.int64(sides[2])
    for i in range(LANES):
        place, weight = np.int64(lane[H1 + i]), 2.0 * lane[CUT + i] * lane[BY_F + i]
        if place >= 0:
            by_table[place] += weight
        elif place == -1:
            by_default[0] += weight
        else:
            first = -2 - place
            h, k, l = fractional(lane, i, m)
            u, v, w = cubic(h - np.floor(h)), cubic(k - np.floor(k)), cubic(l - np.floor(l))
            for a in range(4):
                for b in range(4):
                    at = first + (a * rows + b) * columns
                    for c in range(4):
                        by_table[at + c] += weight * u[a] * v[b] * w[c]


@scalar
def by_one_factor(lane, default, by_default):
    """The same where all reflections share one F, of which the sum over lattices is a multiple of the square."""
    if default != 0.0:
        total = 0.0
        for i in range(LANES):
            total += lane[CUT + i] * lane[TOTAL + i]
        by_default[0] += 2.0 * total / default


@inlined
def polarized_slope(g, source, forward, e, b):
    """Derivative of the polarization factor by the direction and by Kahn's factor, from what `polarized` returns."""
    turn, e_turn, b_turn = (
        2.0 * g[POLARIZATION] * forward,
        2.0 * g[POLARIZATION] * g[KAHN] * e,
        2.0 * g[POLARIZATION] * g[KAHN] * b,
    )
    return (
        turn * source[RAY] - e_turn * source[FIELD_E] + b_turn * source[FIELD_B],
        turn * source[RAY + 1] - e_turn * source[FIELD_E + 1] + b_turn * source[FIELD_B + 1],
        turn * source[RAY + 2] - e_turn * source[FIELD_E + 2] + b_turn * source[FIELD_B + 2],
        -g[POLARIZATION] * (e * e - b * b),
    )


@inlined
def weigh(lane, width, g, source):
    """Into CUT: what the loss grows by with each lane's sum over lattices, and twice that times q into W1..."""
    for i in range(width):
        lane[CUT + i] = lane[WEIGHT + i] * lane[LIT + i] * (source[SHARE] * g[SCALE])
    if g[D_MIN_SQUARED] > 0.0:
        for i in range(width):
            lane[CUT + i] = lane[CUT + i] if within_d_min(lane, i, g) else 0.0
    for i in range(width, LANES):
        lane[CUT + i] = 0.0
    for i in range(LANES):
        weight = 2.0 * lane[CUT + i]
        lane[W1 + i], lane[W2 + i], lane[W3 + i] = weight * lane[Q1 + i], weight * lane[Q2 + i], weight * lane[Q3 + i]


@scalar
def collect_reverse(lane, width, g, source, by_g, by_source):
    """Add what a source scatters to the image, and the derivative by all outside the sum over lattices."""
    leave_out(lane, width, g)
    k, by_total, by_water, along = source[PER_WAVELENGTH], 0.0, 0.0, 0.0
    for i in range(width):
        w, total = lane[WEIGHT + i] * lane[LIT + i], lane[TOTAL + i]
        lane[MEAN + i] += source[SHARE] * lane[LIT + i] * (g[SCALE] * total + g[WATER])
        by_total += w * total
        by_water += w
        cut = 2.0 * lane[CUT + i]
        q1, q2, q3 = cut * lane[G1 + i], cut * lane[G2 + i], cut * lane[G3 + i]
        along += q1 * lane[Q1 + i] + q2 * lane[Q2 + i] + q3 * lane[Q3 + i]
        lane[B1 + i] += k * q1
        lane[B2 + i] += k * q2
        lane[B3 + i] += k * q3
    by_g[SCALE] += source[SHARE] * by_total
    by_g[WATER] += source[SHARE] * by_water
    by_source[0] += along / k
    by_source[1] += g[SCALE] * by_total + g[WATER] * by_water
    if g[POLARIZATION] > 0.0:
        for i in range(width):
            w = lane[WEIGHT + i] * source[SHARE] * (g[SCALE] * lane[TOTAL + i] + g[WATER])
            lane[LIT + i] = w * lane[FACTOR + i]
            lane[BY_FACTOR + i] += w * polarized(lane, i, g, source)[0]
        polarization_reverse(lane, width, g, source, by_g)
    elif has_factor(g):
        for i in range(width):
            scattered = g[SCALE] * lane[TOTAL + i] + g[WATER]
            lane[BY_FACTOR + i] += lane[WEIGHT + i] * source[SHARE] * scattered * g[NO_POLARIZATION]


@inlined
def polarization_reverse(lane, width, g, source, by_g):
    """Add the derivative by direction and Kahn's factor, from that by the polarization factor in LIT."""
    kahn = 0.0
    for i in range(width):
        _, forward, e, b = polarized(lane, i, g, source)
        p1, p2, p3, by_kahn = polarized_slope(g, source, forward, e, b)
        w = lane[LIT + i]
        kahn += w * by_kahn
        lane[B1 + i] += w * p1
        lane[B2 + i] += w * p2
        lane[B3 + i] += w * p3
    by_g[KAHN] += kahn


@inlined
def has_factor(g):
    """Whether rays have a solid angle or a captured share."""
    return g[NO_SOLID_ANGLE] == 0.0 or g[CAPTURES] > 0.0


@scalar
def captured(u, layer):
    """(Share that a layer absorbs, its derivative by u)."""
    before, beyond = np.exp(-layer * u), np.exp(-(layer + 1.0) * u)
    return -before * np.expm1(-u), (layer + 1.0) * beyond - layer * before


@inlined
def factor_slopes(lane, i, g, close):
    """Solid angle of a lane's ray, its derivatives by 1/R, the cosine of incidence and the close distance."""
    per_m = lane[PER_M + i]
    seen_as = g[FACING] + g[OBLIQUITY] * lane[COSINE + i] + g[CLOSE] * close * per_m
    by_per_m = 2.0 * seen_as * per_m + g[CLOSE] * close * per_m * per_m
    angle = g[NO_SOLID_ANGLE] + seen_as * per_m * per_m
    return angle, by_per_m, g[OBLIQUITY] * per_m * per_m, g[CLOSE] * per_m * per_m * per_m


@scalar
def capture_slopes(lane, width, g, layer):
    """Share that a layer captures of each lane's ray, and its derivatives by cosine of incidence and attenuation."""
    for i in range(width):
        u = g[ATTENUATION] / lane[COSINE + i]
        share, slope = captured(u, layer)
        lane[X1 + i], lane[X2 + i], lane[X3 + i] = share, -slope * u / lane[COSINE + i], slope / lane[COSINE + i]


@scalar
def captures_all(lane, width):
    """The same for a sensor that is not modelled."""
    for i in range(width):
        lane[X1 + i], lane[X2 + i], lane[X3 + i] = 1.0, 0.0, 0.0


@scalar
def rays_reverse(lane, width, g, numbers, layer, sub_fast, sub_slow, by_g):
    """Add the derivative by where a flat detector is, of the directions and factors of one sample's rays."""
    if has_factor(g):
        factor_reverse(lane, width, g, numbers, by_g)
    else:
        for i in range(width):
            lane[BY_FACTOR + i] = 0.0
    for i in range(width):
        d1, d2, d3, per_m = lane[D1 + i], lane[D2 + i], lane[D3 + i], lane[PER_M + i]
        b1, b2, b3 = lane[B1 + i], lane[B2 + i], lane[B3 + i]
        inward = b1 * d1 + b2 * d2 + b3 * d3 + lane[BY_FACTOR + i]
        lane[B1 + i], lane[B2 + i], lane[B3 + i] = (
            per_m * (b1 - d1 * inward),
            per_m * (b2 - d2 * inward),
            per_m * (b3 - d3 * inward),
        )
    for j in range(3):
        by_x = by_fast = by_slow = 0.0
        for i in range(width):
            x = lane[B1 + j * LANES + i]
            by_x += x
            by_fast += lane[FAST_INDEX + i] * x
            by_slow += lane[SLOW_INDEX + i] * x
        by_g[ORIGIN + j] += by_x
        by_g[NORMAL + j] += layer * g[LAYER] * by_x
        by_g[FAST + j] += g[STEP] * (by_fast + sub_fast * by_x)
        by_g[SLOW + j] += g[STEP] * (by_slow + sub_slow * by_x)
        by_g[LAYER] += layer * numbers[NORMAL + j] * by_x


@inlined
def factor_reverse(lane, width, g, numbers, by_g):
    """Add the derivative by what solid angle and captured share depend on; into B1... that by the direction, into
    BY_FACTOR that by the logarithm of 1/R."""
    close, attenuation, closer = close_distance(g), 0.0, 0.0
    for i in range(width):
        angle, by_per_m, by_cosine, by_close = factor_slopes(lane, i, g, close)
        w = lane[BY_FACTOR + i]
        by_cosine = w * (by_cosine * lane[X1 + i] + angle * lane[X2 + i])
        attenuation += w * angle * lane[X3 + i]
        w *= lane[X1 + i]
        closer += w * by_close
        lane[COSINE + i], lane[BY_FACTOR + i] = by_cosine, w * by_per_m * lane[PER_M + i]
    by_g[ATTENUATION] += attenuation
    tilted1 = tilted2 = tilted3 = 0.0
    for i in range(width):
        by_cosine = lane[COSINE + i]
        tilted1 += by_cosine * lane[D1 + i]
        tilted2 += by_cosine * lane[D2 + i]
        tilted3 += by_cosine * lane[D3 + i]
        lane[B1 + i] += by_cosine * g[NORMAL]
        lane[B2 + i] += by_cosine * g[NORMAL + 1]
        lane[B3 + i] += by_cosine * g[NORMAL + 2]
    by_g[NORMAL] += tilted1
    by_g[NORMAL + 1] += tilted2
    by_g[NORMAL + 2] += tilted3
    for j in range(3):
        by_g[ORIGIN + j] += closer * numbers[NORMAL + j]
        by_g[NORMAL + j] += closer * numbers[ORIGIN + j]


@scalar
def curved_rays_reverse(lane, width, g, numbers, layer, sub_fast, sub_slow, by_g):
    """The same for a curved detector; `numbers` are those of g, for loops over the components of a vector."""
    close = close_distance(g)
    for i in range(width):
        angle, by_per_m, _, by_close = factor_slopes(lane, i, g, close)
        w, per_m = lane[BY_FACTOR + i], lane[PER_M + i]
        by_g[ATTENUATION] += w * angle * lane[X3 + i]
        w *= lane[X1 + i]
        along, across = arcs(lane, i, g, close, sub_fast, sub_slow)
        sin_f, cos_f, sin_s, cos_s = np.sin(along), np.cos(along), np.sin(across), np.cos(across)
        by_along = by_across = 0.0
        for j in range(3):
            by_d = lane[B1 + j * LANES + i]
            by_along += by_d * (
                cos_f * numbers[FAST + j] - sin_f * (cos_s * numbers[NORMAL + j] + sin_s * numbers[SLOW + j])
            )
            by_across += by_d * cos_f * (cos_s * numbers[SLOW + j] - sin_s * numbers[NORMAL + j])
            by_g[FAST + j] += by_d * sin_f
            by_g[NORMAL + j] += by_d * cos_f * cos_s
            by_g[SLOW + j] += by_d * cos_f * sin_s
        by_radius = -w * by_per_m * per_m * per_m
        by_close = w * by_close + by_radius - (by_along * along + by_across * across) / close
        by_g[LAYER] += layer * by_radius
        for j in range(3):
            by_g[ORIGIN + j] += (
                by_along * numbers[FAST + j] + by_across * numbers[SLOW + j]
            ) / close + by_close * numbers[NORMAL + j]
            by_g[FAST + j] += by_along * numbers[ORIGIN + j] / close
            by_g[SLOW + j] += by_across * numbers[ORIGIN + j] / close
            by_g[NORMAL + j] += by_close * numbers[ORIGIN + j]


@scalar
def taken_once_reverse(lane, width, first, last, numbers, oversample, layers, sources, by_g):
    """Add the derivative by all that the factors taken once a pixel depend on; WEIGHT holds that by the sum."""
    water = left = 0.0
    for i in range(width):
        angle, polar, caught = lane[ANGLE + i], lane[POLARIZED + i], lane[CAUGHT + i]
        by_product = lane[PIXEL_WEIGHT + i] * (lane[MEAN + i] + first[C_WATER])
        water += lane[WEIGHT + i]
        left += 1.0 if lane[FOUND + i] >= 0.0 else 0.0
        lane[ANGLE + i], lane[POLARIZED + i] = by_product * polar * caught, by_product * angle * caught
        lane[CAUGHT + i] = by_product * angle * polar
    by_g[C_WATER] += water
    for sample in range(layers * oversample * oversample):
        if sample == 0 or left > 0.0:
            layer, sub_slow, sub_fast = sample_of(sample, oversample)
            trace_rays(lane, width, first, layer, sub_fast, sub_slow)
            begin_rays(lane, width)
            captures_all(lane, width)
            if sample == 0:
                for i in range(width):
                    lane[BY_FACTOR + i] = lane[ANGLE + i]
            for j in range(sources.shape[0]):
                source, number = source_row(sources, j), np.float64(sample * sources.shape[0] + j)
                if left > 0.0:
                    left -= found_reverse(lane, width, first, source, number, by_g)
            rays_reverse(lane, width, first, numbers, layer, sub_fast, sub_slow, by_g)
    if last[CAPTURES] > 0.0:
        trace_rays(lane, width, last, layers - 1.0, 0.5, 0.5)
        begin_rays(lane, width)
        for i in range(width):
            lane[BY_FACTOR + i] = lane[CAUGHT + i]
        capture_slopes(lane, width, last, layers - 1.0)
        rays_reverse(lane, width, last, numbers, layers - 1.0, 0.5, 0.5, by_g)


@scalar
def found_reverse(lane, width, g, source, number, by_g):
    """Add the derivative by the polarization of a sample, of the lanes that take it; return how many these are."""
    found = 0.0
    for i in range(width):
        here = 1.0 if lane[FOUND + i] == number else 0.0
        found += here
        lane[LIT + i] = here * lane[POLARIZED + i]
    polarization_reverse(lane, width, g, source, by_g)
    return found


@inlined
def sample_reverse(lane, width, g, numbers, layer, sub_fast, sub_slow, by_g):
    """Add the derivative by where the detector is, of the directions and factors of one sample's rays."""
    if g[CAPTURES] > 0.0:
        capture_slopes(lane, width, g, layer)
    else:
        captures_all(lane, width)
    if g[CURVED] > 0.0:
        curved_rays_reverse(lane, width, g, numbers, layer, sub_fast, sub_slow, by_g)
    else:
        rays_reverse(lane, width, g, numbers, layer, sub_fast, sub_slow, by_g)


BARS = "float64[::1], float64[:, ::1], float64[:, ::1], float64[::1], float64[::1], float64[::1], float64[::1]"


@compiled(
    "void(int64[::1], int64[::1], float64[::1], int64, int64, float64[::1], float64[:, ::1], "
    f"{CRYSTAL}, float64[::1], {BARS})"
)
def reverse(
    slow, fast, weight, oversample, layers, g, sources, lattices, shape, cells, form, table, lowest, sides, default,
    interpolate, mean, by_g, by_sources, by_lattices, by_n, by_form, by_table, by_default
):  # fmt: skip
    """Make the image and add the derivative of sum(weight x mean) by every number.

    weight (n,): of each pixel. `slow` ... `mean`: as `kernel.detector_image`. by_g (GEOMETRY,), by_sources (S, 2) for
    1/wavelength and share, by_lattices (M, 9), by_n (3,), by_form (6,) for B B', by_table as `table`, by_default (1,):
    added to. by_g and by_sources together, by_n and by_form together, and by_table are of no size where they are not
    wanted.
    """
    lane, numbers, g = begin(default), g, as_tuple(g, AT_FIRST)
    with_rays, with_extent = by_g.size > 0, by_n.size > 0
    first = as_tuple(switched(numbers, AT_FIRST), AT_FIRST)
    last = as_tuple(switched(numbers, AT_LAST), AT_FIRST)
    cells, form = as_tuple(cells, 3), as_tuple(form, 9)
    for start in range(0, slow.size, LANES):
        width = min(LANES, slow.size - start)
        load_pixels(lane, width, slow, fast, start, oversample)
        for i in range(width):
            lane[WEIGHT + i] = lane[PIXEL_WEIGHT + i] = weight[start + i]
        if g[ONCE] > 0.0:
            taken_once(lane, width, first, last, oversample, layers, sources)
            for i in range(width):
                lane[WEIGHT + i] *= lane[ANGLE + i] * lane[POLARIZED + i] * lane[CAUGHT + i]
        for sample in range(layers * oversample * oversample):
            layer, sub_slow, sub_fast = sample_of(sample, oversample)
            trace_rays(lane, width, g, layer, sub_fast, sub_slow)
            if with_rays:
                begin_rays(lane, width)
            for j in range(sources.shape[0]):
                source = source_row(sources, j)
                scatter(lane, width, source)
                light(lane, width, g, source)
                weigh(lane, width, g, source)
                clear_sums(lane, with_rays)
                listed, by_listed = of_source(table, sides, j), of_source(by_table, sides, j)
                for m in range(lattices.shape[0]):
                    lattice = lattice_row(lattices, m)
                    add_lattice(
                        lane, lattice, shape, cells, form, listed, lowest, sides, default, interpolate, with_extent
                    )  # fmt: skip
                    by_lattice(lane, by_lattices, m)
                    if with_rays:
                        add_slopes(lane, lattice)
                    if by_listed.size:
                        by_factors(lane, lattice, listed, sides, by_listed, by_default)
                    if with_extent and shape == SQUARE:
                        by_cells(lane, by_n)
                    elif with_extent:
                        by_metric(lane, by_form)
                if not listed.size:
                    by_one_factor(lane, default, by_default)
                if with_rays:
                    collect_reverse(lane, width, g, source, by_g, by_sources[j])
                else:
                    collect(lane, width, g, source)
            if with_rays:
                sample_reverse(lane, width, g, numbers, layer, sub_fast, sub_slow, by_g)
        for i in range(width):
            mean[start + i] = lane[MEAN + i]
        if g[ONCE] > 0.0:
            for i in range(width):
                mean[start + i] = (
                    (lane[MEAN + i] + g[C_WATER]) * lane[ANGLE + i] * lane[POLARIZED + i] * lane[CAUGHT + i]
                )
            if with_rays:
                taken_once_reverse(lane, width, first, last, numbers, oversample, layers, sources, by_g)


# -- forward ----------------------------------------------------------------------------------------------------------


@scalar
def move_rays(lane, width, g, layer, sub_fast, sub_slow, dg, moved):
    """How one parameter moves direction (three rows of `moved`) and factor (the fourth) of one sample's rays."""
    close, depth, d_depth = close_distance(g), layer * g[LAYER], layer * dg[LAYER]
    d_close = moved_close(g, dg)
    for i in range(width):
        d1, d2, d3, per_m = lane[D1 + i], lane[D2 + i], lane[D3 + i], lane[PER_M + i]
        f, s = g[STEP] * (lane[FAST_INDEX + i] + sub_fast), g[STEP] * (lane[SLOW_INDEX + i] + sub_slow)
        x1 = dg[ORIGIN] + depth * dg[NORMAL] + d_depth * g[NORMAL] + f * dg[FAST] + s * dg[SLOW]
        x2 = dg[ORIGIN + 1] + depth * dg[NORMAL + 1] + d_depth * g[NORMAL + 1] + f * dg[FAST + 1] + s * dg[SLOW + 1]
        x3 = dg[ORIGIN + 2] + depth * dg[NORMAL + 2] + d_depth * g[NORMAL + 2] + f * dg[FAST + 2] + s * dg[SLOW + 2]
        outward = d1 * x1 + d2 * x2 + d3 * x3
        x1, x2, x3 = per_m * (x1 - d1 * outward), per_m * (x2 - d2 * outward), per_m * (x3 - d3 * outward)
        moved[i], moved[LANES + i], moved[2 * LANES + i] = x1, x2, x3
        d_cosine = x1 * g[NORMAL] + x2 * g[NORMAL + 1] + x3 * g[NORMAL + 2]
        d_cosine += d1 * dg[NORMAL] + d2 * dg[NORMAL + 1] + d3 * dg[NORMAL + 2]
        moved[3 * LANES + i] = moved_factor(lane, i, g, dg, close, d_close, -per_m * per_m * outward, d_cosine)


@inlined
def moved_polarized(lane, i, g, source, dg, d1, d2, d3):
    """(Polarization factor, how it moves) of a lane's ray whose direction moves by d."""
    factor, forward, e, b = polarized(lane, i, g, source)
    p1, p2, p3, by_kahn = polarized_slope(g, source, forward, e, b)
    return factor, p1 * d1 + p2 * d2 + p3 * d3 + by_kahn * dg[KAHN]


@scalar
def push_taken_once(lane, width, first, last, oversample, layers, sources, dg, moved, out):
    """Turn how the sum over samples moves into how that moves, times what is taken once a pixel."""
    missing = 0.0
    for i in range(width):
        lane[CUT + i] = 0.0  # how the product of the factors moves
        missing += 1.0 if lane[FOUND + i] >= 0.0 else 0.0
    captures_all(lane, width)
    for sample in range(layers * oversample * oversample):
        if sample == 0 or missing > 0.0:
            layer, sub_slow, sub_fast = sample_of(sample, oversample)
            trace_rays(lane, width, first, layer, sub_fast, sub_slow)
            move_rays(lane, width, first, layer, sub_fast, sub_slow, dg, moved)
            for i in range(width):
                d_angle = moved[3 * LANES + i] if sample == 0 else 0.0
                lane[CUT + i] += d_angle * lane[POLARIZED + i] * lane[CAUGHT + i]
            for j in range(sources.shape[0]):
                source, number = source_row(sources, j), np.float64(sample * sources.shape[0] + j)
                for i in range(width):
                    here = 1.0 if lane[FOUND + i] == number else 0.0
                    d1, d2, d3 = moved[i], moved[LANES + i], moved[2 * LANES + i]
                    _, d_factor = moved_polarized(lane, i, first, source, dg, d1, d2, d3)
                    lane[CUT + i] += here * d_factor * lane[ANGLE + i] * lane[CAUGHT + i]
                    missing -= here
    if last[CAPTURES] > 0.0:
        trace_rays(lane, width, last, layers - 1.0, 0.5, 0.5)
        capture_slopes(lane, width, last, layers - 1.0)
        move_rays(lane, width, last, layers - 1.0, 0.5, 0.5, dg, moved)
        for i in range(width):
            lane[CUT + i] += moved[3 * LANES + i] * lane[ANGLE + i] * lane[POLARIZED + i]
    for i in range(width):
        product = lane[ANGLE + i] * lane[POLARIZED + i] * lane[CAUGHT + i]
        out[i] = (out[i] + dg[C_WATER]) * product + (lane[MEAN + i] + first[C_WATER]) * lane[CUT + i]


@inlined
def moved_close(g, dg):
    """How the close distance moves."""
    d_close = g[ORIGIN] * dg[NORMAL] + g[ORIGIN + 1] * dg[NORMAL + 1] + g[ORIGIN + 2] * dg[NORMAL + 2]
    return d_close + dg[ORIGIN] * g[NORMAL] + dg[ORIGIN + 1] * g[NORMAL + 1] + dg[ORIGIN + 2] * g[NORMAL + 2]


@inlined
def moved_factor(lane, i, g, dg, close, d_close, d_per_m, d_cosine):
    """How the product of solid angle and captured share moves."""
    angle, by_per_m, by_cosine, by_close = factor_slopes(lane, i, g, close)
    d_angle = by_per_m * d_per_m + by_cosine * d_cosine + by_close * d_close
    return d_angle * lane[X1 + i] + angle * (lane[X2 + i] * d_cosine + lane[X3 + i] * dg[ATTENUATION])


@scalar
def move_curved_rays(lane, width, g, numbers, layer, sub_fast, sub_slow, dg, moved):
    """The same on a curved detector."""
    close, d_close = close_distance(g), moved_close(g, dg)
    for i in range(width):
        along, across = arcs(lane, i, g, close, sub_fast, sub_slow)
        sin_f, cos_f, sin_s, cos_s = np.sin(along), np.cos(along), np.sin(across), np.cos(across)
        d_along, d_across = -along * d_close / close, -across * d_close / close
        for j in range(3):
            d_along += (numbers[ORIGIN + j] * dg[FAST + j] + dg[ORIGIN + j] * numbers[FAST + j]) / close
            d_across += (numbers[ORIGIN + j] * dg[SLOW + j] + dg[ORIGIN + j] * numbers[SLOW + j]) / close
        for j in range(3):
            bent = cos_s * numbers[NORMAL + j] + sin_s * numbers[SLOW + j]
            turned = d_across * (cos_s * numbers[SLOW + j] - sin_s * numbers[NORMAL + j])
            turned += cos_s * dg[NORMAL + j] + sin_s * dg[SLOW + j]
            sideways = d_along * (cos_f * numbers[FAST + j] - sin_f * bent) + sin_f * dg[FAST + j]
            moved[j * LANES + i] = sideways + cos_f * turned
        d_per_m = -lane[PER_M + i] * lane[PER_M + i] * (d_close + layer * dg[LAYER])
        moved[3 * LANES + i] = moved_factor(lane, i, g, dg, close, d_close, d_per_m, 0.0)


@inlined
def push_lattice(lane, width, dm, sums):
    """Add how one parameter moves a lattice's part of the sum, through the lattice."""
    for i in range(width):
        q1, q2, q3 = lane[Q1 + i], lane[Q2 + i], lane[Q3 + i]
        h = dm[0] * q1 + dm[1] * q2 + dm[2] * q3
        k = dm[3] * q1 + dm[4] * q2 + dm[5] * q3
        l = dm[6] * q1 + dm[7] * q2 + dm[8] * q3
        sums[i] += 2.0 * (lane[E1 + i] * h + lane[E2 + i] * k + lane[E3 + i] * l)


@inlined
def push_shape(lane, width, shape, dn, dform, sums):
    """The same through the numbers of cells and the spot's form."""
    for i in range(width):
        if shape == SQUARE:
            sums[i] += 2.0 * (lane[N1 + i] * dn[0] + lane[N2 + i] * dn[1] + lane[N3 + i] * dn[2])
        else:
            x, y, z = lane[X1 + i], lane[X2 + i], lane[X3 + i]
            squares = dform[0] * x * x + dform[1] * y * y + dform[2] * z * z
            sums[i] += lane[U + i] * (squares + dform[3] * x * y + dform[4] * x * z + dform[5] * y * z)


@scalar
def push_factors(lane, width, m, has_table, sides, dtable, ddefault, sums):
    """The same through the structure factors."""
    for i in range(width):
        place = np.int64(lane[H1 + i]) if has_table else -1
        df = ddefault
        if place >= 0:
            df = dtable[place]
        elif place < -1:
            h, k, l = fractional(lane, i, m)
            u, v, w = cubic(h - np.floor(h)), cubic(k - np.floor(k)), cubic(l - np.floor(l))
            df = tricubic(dtable, -2 - place, sides, u, v, w)
        sums[i] += 2.0 * lane[BY_F + i] * df


@inlined
def push_collected(lane, width, g, source, dg, dsource, moved, sums, out):
    """Add how one parameter moves what a source scatters into each lane's pixel."""
    for i in range(width):
        seen = 1.0 if within_d_min(lane, i, g) else 0.0
        d1, d2, d3 = moved[i], moved[LANES + i], moved[2 * LANES + i]
        factor, d_factor = moved_polarized(lane, i, g, source, dg, d1, d2, d3)
        k = source[PER_WAVELENGTH]
        q1 = k * d1 + dsource[0] * (lane[D1 + i] - source[RAY])
        q2 = k * d2 + dsource[0] * (lane[D2 + i] - source[RAY + 1])
        q3 = k * d3 + dsource[0] * (lane[D3 + i] - source[RAY + 2])
        total = sums[i] + 2.0 * (lane[G1 + i] * q1 + lane[G2 + i] * q2 + lane[G3 + i] * q3)
        scattered = seen * g[SCALE] * lane[TOTAL + i] + g[WATER]
        d_scattered = seen * (g[SCALE] * total + dg[SCALE] * lane[TOTAL + i]) + dg[WATER]
        caught, d_caught = lane[FACTOR + i], moved[3 * LANES + i]
        change = (dsource[1] * factor * caught + source[SHARE] * (d_factor * caught + factor * d_caught)) * scattered
        out[i] += change + source[SHARE] * factor * caught * d_scattered


MOVES = (
    "float64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], int64[::1], float64[:, ::1], float64[:, ::1], "
    "float64[:, ::1], int64[::1], float64[::1]"
)


@compiled(
    "void(int64[::1], int64[::1], int64, int64, float64[::1], float64[:, ::1], "
    f"{CRYSTAL}, {MOVES}, float64[::1], float64[:, ::1])"
)
def forward(
    slow, fast, oversample, layers, g, sources, lattices, shape, cells, form, table, lowest, sides, default,
    interpolate, dg, dsources, dlattices, lattice_of, dn, dform, dtable, table_of, ddefault, mean, dmean
):  # fmt: skip
    """Make the image and its derivative by each of K parameters.

    dg (K, GEOMETRY), dsources (K, S, 2), dlattices (L, M, 9) with the row of each parameter in lattice_of (K,), dn
    (K, 3), dform (K, 6), dtable (T, table.size) with the row of each in table_of (K,), ddefault (K,): how the numbers
    move. mean (n,) and dmean (K, n): out. The rest: as `kernel.detector_image`.
    """
    count = dg.shape[0]
    lane, out = begin(default), np.empty((count, LANES))
    numbers, g, cells, form = g, as_tuple(g, AT_FIRST), as_tuple(cells, 3), as_tuple(form, 9)
    first = as_tuple(switched(numbers, AT_FIRST), AT_FIRST)
    last = as_tuple(switched(numbers, AT_LAST), AT_FIRST)
    moved, sums, nothing = np.empty((count, RAY_ROWS * LANES)), np.empty((count, LANES)), np.zeros(table.size)
    shaped, weighted = np.empty(count), np.empty(count)
    for k in range(count):
        shaped[k] = np.abs(dn[k]).sum() + np.abs(dform[k]).sum()
        weighted[k] = table_of[k] >= 0 or ddefault[k] != 0.0
    for start in range(0, slow.size, LANES):
        width = min(LANES, slow.size - start)
        load_pixels(lane, width, slow, fast, start, oversample)
        out[:] = 0.0
        for sample in range(layers * oversample * oversample):
            layer, sub_slow, sub_fast = sample_of(sample, oversample)
            trace_rays(lane, width, g, layer, sub_fast, sub_slow)
            if g[CAPTURES] > 0.0:
                capture_slopes(lane, width, g, layer)
            else:
                captures_all(lane, width)
            for k in range(count):
                if g[CURVED] > 0.0:
                    move_curved_rays(lane, width, g, numbers, layer, sub_fast, sub_slow, dg[k], moved[k])
                else:
                    move_rays(lane, width, g, layer, sub_fast, sub_slow, as_tuple(dg[k], STEP), moved[k])
            for j in range(sources.shape[0]):
                source = source_row(sources, j)
                scatter(lane, width, source)
                clear_sums(lane, True)
                sums[:] = 0.0
                listed = of_source(table, sides, j)
                for m in range(lattices.shape[0]):
                    lattice = lattice_row(lattices, m)
                    add_lattice(
                        lane, lattice, shape, cells, form, listed, lowest, sides, default, interpolate, True
                    )  # fmt: skip
                    add_slopes(lane, lattice)
                    for k in range(count):
                        if lattice_of[k] >= 0:
                            push_lattice(lane, width, dlattices[lattice_of[k], m], sums[k])
                        if shaped[k] > 0.0:
                            push_shape(lane, width, shape, dn[k], dform[k], sums[k])
                        if weighted[k] > 0.0:
                            dt = dtable[table_of[k]] if table_of[k] >= 0 else nothing
                            dt = of_source(dt, sides, j)
                            push_factors(lane, width, lattice, listed.size > 0, sides, dt, ddefault[k], sums[k])
                for k in range(count):
                    push_collected(
                        lane, width, g, source, as_tuple(dg[k], STEP), dsources[k, j], moved[k], sums[k], out[k]
                    )
                light(lane, width, g, source)
                collect(lane, width, g, source)
        for i in range(width):
            mean[start + i] = lane[MEAN + i]
        if g[ONCE] > 0.0:
            taken_once(lane, width, first, last, oversample, layers, sources)
            for i in range(width):
                mean[start + i] = (
                    (lane[MEAN + i] + g[C_WATER]) * lane[ANGLE + i] * lane[POLARIZED + i] * lane[CAUGHT + i]
                )
            for k in range(count):
                dgk = as_tuple(dg[k], STEP)
                push_taken_once(lane, width, first, last, oversample, layers, sources, dgk, moved[k], out[k])
        for k in range(count):
            for i in range(width):
                dmean[k, start + i] = out[k, i]
