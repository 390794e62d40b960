"""The conventions of this package, each pinned by one literal number that a transposed or mirrored code cannot meet.

Group laws (closure, inverse, association) hold as well for the wrong convention; only a number tells them apart.

- Active: a rotation moves the vector, the axes stay.
- Right-handed: a positive angle about z turns x towards y; the sense of exp(-i t.I) and of d(rho)/dt = omega x rho.
- Column vectors: R v; the product R2 R1 turns by R1 first. Quaternions multiply in the same order.
- Quaternions are (w, x, y, z) = (cos, n sin) of half the angle.
- The left Jacobian takes a change of the rotation vector to a turn about axes fixed in space: R(t + dt) = R(J dt) R(t).
- Euler angles are named in full; see `euler`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt


@dataclass(frozen=True)
class Anchor:
    """One literal number of a convention.

    Attributes
    ----------
    says : str
        The convention in words.
    given : tuple
        Input numbers; angles in radians, except Euler angles in degrees.
    result : tuple
        What comes out, typed from a hand calculation or from an independent program, never from this package.
    """

    says: str
    given: tuple
    result: tuple


ANCHORS = {
    "active": Anchor(
        "90 degrees about z moves the vector x to y",
        given=((0.0, 0.0, pi / 2), (1.0, 0.0, 0.0)),
        result=(0.0, 1.0, 0.0),
    ),
    "right-handed": Anchor(
        "90 degrees about x moves z to -y: what a pulse of phase x does to the equilibrium magnetisation",
        given=((pi / 2, 0.0, 0.0), (0.0, 0.0, 1.0)),
        result=(0.0, -1.0, 0.0),
    ),
    "composition": Anchor(
        "R2 R1 with R1 = 90 degrees about x and R2 = 90 degrees about z moves y to z (R1 R2 would move it to -x)",
        given=((pi / 2, 0.0, 0.0), (0.0, 0.0, pi / 2), (0.0, 1.0, 0.0)),
        result=(0.0, 0.0, 1.0),
    ),
    "quaternion order": Anchor(
        "90 degrees about z is (1, 0, 0, 1)/sqrt(2): the real part comes first",
        given=(0.0, 0.0, pi / 2),
        result=(sqrt(0.5), 0.0, 0.0, sqrt(0.5)),
    ),
    "quaternion product": Anchor(
        "Hamilton's i j = k: the half turn about y, then that about x, is that about z",
        given=((0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
        result=(0.0, 0.0, 0.0, 1.0),
    ),
    "left Jacobian": Anchor(
        "at 90 degrees about z a change along x turns about (2/pi, 2/pi, 0); the right Jacobian has (2/pi, -2/pi, 0)",
        given=((0.0, 0.0, pi / 2), (1.0, 0.0, 0.0)),
        result=(2 / pi, 2 / pi, 0.0),
    ),
    "intrinsic-ZYZ": Anchor(
        "R = Rz(30) Ry(50) Rz(70)",
        given=(30.0, 50.0, 70.0),
        result=(
            (-0.279453820664, -0.694109138026, 0.663413948169),
            (0.923720836546, -0.005813254052, 0.383022221559),
            (-0.262002630229, 0.719846310393, 0.642787609687),
        ),
    ),
    "intrinsic-ZYX": Anchor(
        "R = Rz(30) Ry(50) Rx(70)",
        given=(30.0, 50.0, 70.0),
        result=(
            (0.556670399226, 0.452395119958, 0.696747244030),
            (0.321393804843, 0.656121287923, -0.682796366235),
            (-0.766044443119, 0.604022773555, 0.219846310393),
        ),
    ),
    "extrinsic-XYZ": Anchor(
        "R = Rz(70) Ry(50) Rx(30): about the fixed x by 30, then y by 50, then z by 70",
        given=(30.0, 50.0, 70.0),
        result=(
            (0.219846310393, -0.682796366235, 0.696747244030),
            (0.604022773555, 0.656121287923, 0.452395119958),
            (-0.766044443119, 0.321393804843, 0.556670399226),
        ),
    ),
}
