"""Write docs/pulses/job.md from the models of the job file: `python docs/generate.py`, or `--check` to compare only.

Types, defaults and allowed values come from the models; what a key means stands here, and a key without a meaning (or
a meaning without a key) is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from exactgrad.pulses.job import LARGEST, LEAST, Job

PAGE = Path(__file__).resolve().parent / "pulses" / "job.md"

HEAD = """\
# The job file, key by key

<!-- Written by docs/generate.py from the models in src/exactgrad/pulses/job.py: do not edit by hand. -->

A job is a [TOML](https://toml.io) file. Times are in µs, frequencies in Hz, angles in degrees. An unknown key is an
error, and so is text where a number is needed; the message names file, key, value and unit. Numbers are finite and at
most 10¹⁵ in magnitude. File names are relative to the job file. `exactgrad pulse design` has options `--seed`,
`--starts`, `--max-iterations` and `--max-seconds`, which replace the keys of the same name in `[solve]`.

An *axis* is `"x"`, `"y"`, `"z"`, `"-x"`, `"-y"`, `"-z"`, or a vector of three numbers, which is normalised.
"""

# Table, model, what it is for.
SECTIONS = (
    ("[pulse]", "PulseTable", "The steps of the pulse, and what may change in each of them."),
    ("[[pulse.hold]]", "HeldSegment", "Steps whose waveform is given; all zero (a blanked segment) by default."),
    (
        "[target]",
        "TargetTable",
        "What the pulse does: exactly one of `transfer`, `rotation`, `saturation`, `transverse` for all spins, or a "
        "list of bands with one each, or a map of end states.",
    ),
    ("[target.rotation]", "RotationTable", "A universal rotation: for every initial state."),
    (
        "[[target.band]]",
        "Band",
        "An aim of its own for a part of the ensemble. The first band that holds a spin judges it; a spin in no band "
        "(a transition region) is judged by nothing.",
    ),
    (
        "[ensemble]",
        "EnsembleTable",
        "The spins: a grid of offsets × B1, or a measured distribution. Offsets come from `bandwidth_hz` with "
        "`offsets`, or from the list `offsets_hz`.",
    ),
    ("[limits]", "LimitsTable", "Each is optional, and they may be combined. They bind what the console plays."),
    ("[penalties]", "PenaltiesTable", "Costs on the waveform, added to 1 − quality."),
    ("[response]", "ResponseTable", "What the transmitter makes of the pulse. Leave the table out for a perfect one."),
    (
        "[solve]",
        "SolveTable",
        "How to search. The same job and seed give the same pulse bit for bit, unless `max_seconds` cut it short.",
    ),
    ("[output]", "OutputTable", "Which files are written, and in which convention."),
)

# Model.key: (unit, meaning).
MEANING = {
    "PulseTable.duration_us": (
        "µs",
        "Length of the pulse; a whole number of steps. Needed unless `steps_us` is given.",
    ),
    "PulseTable.step_us": ("µs", "Length of every step. Needed unless `steps_us` is given."),
    "PulseTable.steps_us": ("µs", "Length of each step, in place of `step_us`; at most 1 000 000 steps."),
    "PulseTable.controls": (
        "",
        "What is free in a step: `xy` Cartesian amplitudes; `xyz` and an offset control; `polar` amplitude and phase; "
        "`phase` the phase alone, at the amplitude `limits.peak_hz`; `reduced` the pseudo controls of Slad & Luy "
        "(amplitude through a tanh); `-z` adds an offset control.",
    ),
    "PulseTable.symmetry": (
        "",
        "Time symmetry: one parity for all channels, or a table with one for each, "
        '`symmetry = {x = "even", y = "odd"}`. Only half of the steps are then free.',
    ),
    "PulseTable.hold": ("", "See `[[pulse.hold]]`."),
    "HeldSegment.from_us": ("µs", "Start; steps whose middle lies between start and end are held."),
    "HeldSegment.to_us": ("µs", "End; within the pulse."),
    "HeldSegment.ux_hz": ("Hz", "Amplitude along x."),
    "HeldSegment.uy_hz": ("Hz", "Amplitude along y."),
    "HeldSegment.uz_hz": ("Hz", "Offset control."),
    "Aim.transfer": ("", "Point to point, `[from, to]`: quality = to · ρ(T), from −1 to 1."),
    "Aim.rotation": ("", "See `[target.rotation]`. Quality = Q_F · Q, from −1 to 1."),
    "Aim.saturation": ("", "Leave nothing along this axis, starting along it: quality = 1 − (axis · ρ(T))²."),
    "Aim.transverse": ("", "Bring this axis across itself at any phase: quality = |ρ⊥(T)|."),
    "Aim.phase_slope": (
        "1",
        "Of a transfer: the target turns about z by 2π · slope · T · offset, T being the length of the pulse. 0: all "
        "offsets in phase at the end. 1: as if precessing from the start of the pulse.",
    ),
    "TargetTable.band": ("", "See `[[target.band]]`."),
    "TargetTable.map": (
        "",
        "CSV file of wanted end states: columns `offset_hz`, `b1`, `x`, `y`, `z` and, optionally, `weight`. It says "
        "the ensemble too: `[ensemble]` then holds an objective only.",
    ),
    "TargetTable.start": ("", "Initial state of all spins of a map."),
    "RotationTable.axis": ("", "Axis of the rotation."),
    "RotationTable.angle_deg": ("°", "Angle, right-handed about the axis."),
    "RotationTable.sign_free": ("", "Judge by (Q_F · Q)²: a rotation by one more full turn is as good."),
    "Band.offset_hz": ("Hz", "From and to, both included."),
    "Band.b1": ("1", "From and to in relative B1; all of it if not given."),
    "Band.weight": ("1", "Multiplies the weights of the band's spins."),
    "EnsembleTable.bandwidth_hz": ("Hz", "Offsets from −half to +half of it about `centre_hz`, both ends included."),
    "EnsembleTable.centre_hz": ("Hz", "Middle of the band."),
    "EnsembleTable.offsets": ("", "How many; a spacing of 1/(2 T) or less is needed to see every oscillation."),
    "EnsembleTable.offsets_hz": ("Hz", "The offsets themselves, at any spacing."),
    "EnsembleTable.offset_weights": ("1", "One for each offset; equal by default."),
    "EnsembleTable.b1_spread": ("1", "Relative B1 from 1 − spread to 1 + spread."),
    "EnsembleTable.b1_points": ("", "How many."),
    "EnsembleTable.b1": ("1", "The relative B1 values themselves."),
    "EnsembleTable.b1_weights": ("1", "One for each B1; equal by default."),
    "EnsembleTable.distribution": (
        "",
        "CSV file of a measured B0/B1 distribution: columns `offset_hz`, `b1` and, optionally, `weight`.",
    ),
    "EnsembleTable.objective": ("", "`mean`: the weighted mean quality. `worst`: a smooth minimum over the spins."),
    "EnsembleTable.sharpness": (
        "1",
        "k of the smooth minimum −log(Σ w exp(−k Φ))/k; larger is closer to the minimum and harder to search.",
    ),
    "LimitsTable.peak_hz": ("Hz", "Largest rf amplitude √(ux² + uy²): one for all steps, or one for each."),
    "LimitsTable.rms_hz": ("Hz", "Largest time-weighted root mean square amplitude."),
    "LimitsTable.energy_hz2_s": ("Hz² s", "Largest Σ (ux² + uy²) Δt."),
    "LimitsTable.power_map": (
        "",
        "How `rms_hz` and `energy_hz2_s` are held: `exact` scales a pulse that is above the limit down to it; `tanh` "
        "is Slad & Luy's Eq. 46, which stays below it. By default `exact`, and `tanh` for `reduced` controls without "
        "`peak_hz`.",
    ),
    "LimitsTable.enforce": (
        "",
        "`map`: by a map of the controls, so that every iterate keeps the limits. `penalty`: by a cost, and the result "
        "is scaled into the limits at the end.",
    ),
    "LimitsTable.penalty_weight": ("1", "Weight of that cost."),
    "PenaltiesTable.smoothness": ("1", "Weight of the squared differences of neighbouring steps."),
    "ResponseTable.file": (
        "",
        "CSV file of the impulse response: columns `t_us`, `re` and, optionally, `im`, one row a step, from 0. The "
        "ring-down lengthens what the spins see.",
    ),
    "SolveTable.start": (
        "",
        "`random`; `smooth` random waveforms; `chirp`, the one for inversion and universal 180° rotations; `coarse`, "
        "random and searched on 50 µs, then 10 µs, then the job's steps; or the name of a pulse file.",
    ),
    "SolveTable.chirp_bandwidth_hz": (
        "Hz",
        "Width of the chirp's sweep; 1 to 1.7 times the bandwidth, by seed, if not given.",
    ),
    "SolveTable.starts": ("", "How many starts; start i has the seed `seed` + i."),
    "SolveTable.seed": ("", "Of the first start."),
    "SolveTable.max_iterations": ("", "Budget of a start's last stage; exit code 3 when it is used up."),
    "SolveTable.max_seconds": ("s", "Budget of wall time, that of earlier processes (`resume`) included."),
    "SolveTable.method": ("", "`lbfgs`, or `newton`: trust-region Newton with exact Hessian products after it."),
    "SolveTable.memory": ("", "Pairs that L-BFGS keeps."),
    "SolveTable.halving": ("", "Give up the worse half of the starts between rounds of doubled length."),
    "SolveTable.tolerance": ("1", "Decrease of the loss below which a search has converged."),
    "OutputTable.formats": (
        "",
        "Names of [formats](formats.md); a format that cannot hold the pulse is refused with a reason.",
    ),
    "OutputTable.name": ("", "File name without suffix: letters, digits and `_ . + -`, at most 64."),
    "OutputTable.rf_max_hz": ("Hz", "Amplitude at 100 % in files of fractions; the pulse's peak if not given."),
    "OutputTable.phase_sign": (
        "",
        "−1 turns the sense of the phase in the files, for a spectrometer of the opposite sign.",
    ),
    "OutputTable.figures": ("", "Draw the figures."),
}

AXIS = ["x", "y", "z", "-x", "-y", "-z"]
POWERS = {2**63 - 1: "2⁶³ − 1"}


def page() -> str:
    """Return the whole page."""
    schema = Job.model_json_schema()
    models = schema["$defs"]
    used: set[str] = set()
    parts = [HEAD]
    for title, name, text in SECTIONS:
        rows = [_row(models, name, key, item, used) for key, item in models[name]["properties"].items()]
        table = ["| key | unit | allowed | default | meaning |", "|---|---|---|---|---|", *rows]
        parts.append(f"## `{title}`\n\n{text}\n\n" + "\n".join(table) + "\n")
    _check_complete(schema, used)
    return "\n".join(parts)


def _row(models: dict[str, Any], name: str, key: str, item: dict[str, Any], used: set[str]) -> str:
    place = f"Aim.{key}" if f"Aim.{key}" in MEANING and f"{name}.{key}" not in MEANING else f"{name}.{key}"
    if place not in MEANING:
        raise SystemExit(f"docs/generate.py: no meaning for {place}")
    used.add(place)
    unit, meaning = MEANING[place]
    required = key in models[name].get("required", [])
    default = "needed" if required else _literal(item.get("default"))
    cells = (f"`{key}`", unit, _allowed(item), default, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _check_complete(schema: dict[str, Any], used: set[str]) -> None:
    listed = {name for _, name, _ in SECTIONS}
    for name in schema["$defs"]:
        if name not in listed:
            raise SystemExit(f"docs/generate.py: table {name} is in no section")
    if used != set(MEANING):
        raise SystemExit(f"docs/generate.py: meaning of what is no key: {', '.join(sorted(set(MEANING) - used))}")


def _literal(value: Any) -> str:
    """Return a default as TOML writes it, or nothing where there is none."""
    return "" if value is None or value == [] else f"`{json.dumps(value)}`"


def _allowed(item: dict[str, Any]) -> str:
    """Return what a schema allows, in words."""
    if "$ref" in item:
        return "table"
    if "anyOf" in item:
        kinds = [kind for kind in item["anyOf"] if kind.get("type") != "null"]
        if kinds and kinds[0].get("enum") == AXIS:
            return "axis"
        return " or ".join(_allowed(kind) for kind in kinds)
    if "enum" in item:
        return ", ".join(f"`{json.dumps(value)}`" for value in item["enum"])
    kind = item.get("type")
    if kind == "array":
        if "prefixItems" in item:
            return "[" + ", ".join(_allowed(part) for part in item["prefixItems"]) + "]"
        return f"list of {_allowed(item['items'])}"
    if kind in ("number", "integer"):
        return ("number" if kind == "number" else "whole number") + _bounds(item)
    return {"string": "text", "boolean": "`true`, `false`", "object": "table"}[str(kind)]


def _bounds(item: dict[str, Any]) -> str:
    bounds = []
    for key, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤")):
        value = item.get(key)
        if value is None or abs(value) == LARGEST:
            continue
        if value == LEAST:
            sign, value = ">", 0
        bounds.append(f"{sign} {POWERS.get(value) or f'{value:,}'.replace(',', ' ')}")
    return (" " if bounds else "") + ", ".join(bounds)


def main(arguments: list[str]) -> int:
    """Write the page; with --check, return 1 if it is stale."""
    text = page()
    if arguments == ["--check"]:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
