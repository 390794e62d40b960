"""The job of a reconstruction: everything in it has a default. TOML; lengths in voxel edges, angles in degrees."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from exactgrad.tomography.tables import Count, Flag, NotNegative, Positive, Seed, Table, Whole


class DataTable(Table):
    """[data]: which q is reconstructed where the file has several: one of them, all, or those in a range.

    Several share the geometry, and each is started from its neighbour; the results are in folders q_000, q_001, ...
    """

    q: Annotated[Whole, Field(ge=0)] | Literal["all"] | None = None
    q_range: tuple[NotNegative, NotNegative] | None = None

    @model_validator(mode="after")
    def _one_choice(self) -> DataTable:
        if self.q is not None and self.q_range is not None:
            raise ValueError("give q or q_range, not both")
        if self.q_range is not None and self.q_range[0] > self.q_range[1]:
            raise ValueError(
                f"q_range: [{self.q_range[0]:g}, {self.q_range[1]:g}]: a lower and an upper limit are needed"
            )
        return self

    @property
    def number(self) -> int | None:
        """The one q that is named, from 0, or None."""
        return self.q if isinstance(self.q, int) else None

    @property
    def may_be_several(self) -> bool:
        """Say whether more than one q may be asked for."""
        return self.q == "all" or self.q_range is not None


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
    It counts less for voxels below a tenth of a bright one's intensity, and for neighbours of which one is much dimmer.
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
    tolerance: NotNegative = 1e-5
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
