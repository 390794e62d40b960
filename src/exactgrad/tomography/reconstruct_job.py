"""The job of a reconstruction: everything in it has a default. TOML; lengths in voxel edges, angles in degrees."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from exactgrad.tomography.tables import Count, Flag, NotNegative, Positive, Seed, Table, Whole


class DataTable(Table):
    """[data]: which q is reconstructed, from 0, where the file has several."""

    q: Annotated[Whole, Field(ge=0)] | None = None


class ModelTable(Table):
    """[model]: the cost of a modelled intensity, and what is added under its roots (the data's unit)."""

    cost: Literal["sqrt", "poisson", "gaussian"] = "sqrt"
    e0: NotNegative | None = None


class MaskTable(Table):
    """[mask]: rays darker than `threshold` of a bright one are empty, and so are the voxels on them."""

    automatic: Flag = True
    threshold: Annotated[Positive, Field(lt=1)] = 1e-3


class RegularisationTable(Table):
    """[regularisation]: the weight ("auto": chosen from held-out pixels), and what it is multiplied with by field.

    A weight of 1 counts a turn of a voxel's axis as much as all of the intensity that the voxel scatters.
    """

    weight: NotNegative | Literal["auto"] = "auto"
    axis: NotNegative = 1.0
    A: NotNegative = 0.1
    B: NotNegative = 0.1
    delta_A: Positive = 0.2
    delta_B: Positive = 0.5
    held_out: Annotated[Positive, Field(lt=0.5)] = 0.1


class SolveTable(Table):
    """[solve]: budgets. `max_iterations` is of the last fit; `path_iterations` of each fit before it."""

    max_iterations: Annotated[Whole, Field(ge=0, le=1_000_000)] = 1000
    path_iterations: Annotated[Whole, Field(ge=1, le=100_000)] = 60
    max_seconds: Positive | None = None
    tolerance: NotNegative = 1e-7
    memory: Annotated[Count, Field(le=1000)] = 12
    seed: Seed = 0


class BasinTable(Table):
    """[basin]: voxels are offered the other sign of B and other axes, in so many rounds."""

    rounds: Annotated[Whole, Field(ge=0, le=100)] = 3


class AlignTable(Table):
    """[align]: refine the offset of every projection, in so many rounds (0: trust the file's)."""

    rounds: Annotated[Whole, Field(ge=0, le=100)] = 0
    most_pixels: Positive = 10.0


class QualityTable(Table):
    """[quality]: standard errors (from so many samples; 0: none), and the reconstructions of two halves of the data."""

    samples: Annotated[Whole, Field(ge=0, le=10_000)] | Literal["auto"] = "auto"
    split_half: Flag | Literal["auto"] = "auto"


class OutputTable(Table):
    """[output]: what is written beside result.h5."""

    figures: Flag = True
    residuals: Flag = True


class Job(Table):
    """A whole reconstruction."""

    data: DataTable = DataTable()
    model: ModelTable = ModelTable()
    mask: MaskTable = MaskTable()
    regularisation: RegularisationTable = RegularisationTable()
    solve: SolveTable = SolveTable()
    basin: BasinTable = BasinTable()
    align: AlignTable = AlignTable()
    quality: QualityTable = QualityTable()
    output: OutputTable = OutputTable()
