"""docs/pulses/job.md: what each key of a pulse's job file means."""

from __future__ import annotations

from exactgrad.pulses.job import Job
from generators import job_page

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


def page() -> str:
    """Return the page."""
    return job_page.page(HEAD, Job, SECTIONS, MEANING)
