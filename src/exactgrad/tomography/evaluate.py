"""The cost of given parameters on given data, and its gradient: what a user checks our derivatives with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exactgrad import __version__
from exactgrad.errors import InputError, require_range
from exactgrad.files import write_hdf5
from exactgrad.tomography import formats
from exactgrad.tomography.formats import result


def evaluate(
    path: Any,
    parameters: Any,
    gradient: Any = None,
    e0: float = 0.0,
    q: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Return the cost 2 sum w (sqrt(T I_model + e0) - sqrt(I + e0))^2 of parameters in a file, on data in another.

    Parameters
    ----------
    path : path
        The data.
    parameters : path
        HDF5 with ``A``, ``B``, ``theta_op``, ``phi_op`` [x, y, z] (or ``axis``) at its root.
    gradient : path, optional
        HDF5 to write: the derivatives by A, B, theta_op and phi_op under the same names; must not exist.
    e0 : float
        Intensity that is added under both roots, in the data's unit.
    q : int, optional
        Which q, where the data have several.
    threads : int, optional
        Most threads; results do not depend on it.

    Returns
    -------
    dict
        What `--json` prints: ``loss``, ``seconds``, ``values`` (data with a weight above 0), ``warnings``.

    Raises
    ------
    InputError
        If a file cannot be read or written, or the volumes do not fit the data.
    """
    from time import monotonic

    from exactgrad.tomography.problem import TomographyProblem

    require_range("--e0", e0, low=0.0)
    if gradient is not None and Path(gradient).exists():
        raise InputError(f"{gradient}: exists already and is not overwritten")
    found = formats.read(path)
    data = formats.one_of(path, found, q)
    fields = result.read_parameters(Path(parameters))
    if fields["A"].shape != tuple(data.geometry.volume_shape):
        raise InputError(
            f"{parameters}: A: shape {fields['A'].shape} where {tuple(data.geometry.volume_shape)} is needed, "
            f"the volume of {path}"
        )
    began = monotonic()
    problem = TomographyProblem(data, cost="sqrt", e0=e0, threads=threads)
    loss, slopes = problem.loss_and_gradient(**fields)
    seconds = monotonic() - began
    if gradient is not None:
        write_hdf5(Path(gradient), slopes, {"loss": loss, "e0": e0})
    return {
        "system": "tomography",
        "command": "evaluate",
        "version": __version__,
        "status": "evaluated",
        "loss": loss,
        "e0": e0,
        "seconds": seconds,
        "values": sum(int((data.projection(n)[1] > 0).sum()) for n in range(data.geometry.projections)),
        "gradient": None if gradient is None else str(gradient),
        "warnings": list(found.warnings),
    }
