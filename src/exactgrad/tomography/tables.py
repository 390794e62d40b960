"""What the job files of this system share beyond `core.job_file`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from exactgrad.core.job_file import LARGEST, Flag, NotNegative, Table, Whole, read_job

Positive = Annotated[float, Strict(), Field(gt=0, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Strict(), Field(ge=1)]
Seed = Annotated[int, Strict(), Field(ge=0, le=2**63 - 1)]

__all__ = ["Count", "Flag", "NotNegative", "Positive", "Seed", "Table", "Whole", "read_job"]
