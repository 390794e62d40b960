"""The C program's command line: read by the table of its options, then made into a scene.

Where the C program ignores an option or takes part
of a word for it, correct mode refuses the line and says why; with ``--c-compat`` it is a warning and the image is that
of the C program. Of a repeated option the last counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exactgrad.diffraction.option_table import Option, find, whole
from exactgrad.errors import InputError

if TYPE_CHECKING:
    from exactgrad.diffraction.assemble import Outputs
    from exactgrad.diffraction.scene import Scene


@dataclass
class Given:
    """What a command line says: by key, the value and the option as the user spelled it; warnings so far.

    `order` holds the keys in the order in which they were last given.
    """

    c_compat: bool
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default if no option set it."""
        return self.values.get(key, default)

    def set(self, key: str, value: Any, spelling: str) -> None:
        """Set a key; it becomes the last one."""
        self.values.pop(key, None)
        self.values[key], self.spelled[key] = value, spelling

    def path(self, key: str) -> Path:
        """Return a file that an option names, relative to the folder of the command line."""
        return self.folder / self.values[key]

    def ineffective(self, key: str, why: str) -> None:
        """Refuse an option that would do nothing, or warn of it with `c_compat`."""
        self.object(f"{self.spelled.get(key, key)}: {why}")

    def object(self, message: str) -> None:
        """Raise `InputError`, or keep the message as a warning with `c_compat`."""
        if not self.c_compat:
            raise InputError(message)
        self.warnings.append(message)


def read(argv: Sequence[str], folder: Path = Path(), c_compat: bool = False) -> Given:
    """Return what the words of a command line (without the program's name) say.

    Raises
    ------
    InputError
        An option is unknown, lacks an argument, or has one that is not what it takes; the message names it.
    """
    given = Given(c_compat or "--c-compat" in argv, Path(folder))
    place = 0
    while place < len(argv):
        word = argv[place]
        option = find(word)
        place += 1
        if option is None:
            given.object(f"{word}: no such option")
            while place < len(argv) and not argv[place].startswith("-"):
                place += 1  # what it was meant to take
            continue
        arguments = _arguments(option, word, argv[place:])
        place += len(arguments)
        if option.unused:
            given.object(f"{word}: {option.unused}")
            continue
        values = [_value(option, word, text) for text in arguments]
        whole = (
            option.value if not option.count else values[0] if option.count == 1 or values[0] == "random" else values
        )
        for key in option.keys:
            given.set(key, whole, word)
    return given


def _arguments(option: Option, word: str, rest: Sequence[str]) -> list[str]:
    if option.keys == ("misset",) and rest and "rand" in rest[0]:
        return [rest[0]]
    if option.fewer:
        taken = list(rest[: option.count])
        ends = [i for i, text in enumerate(taken) if find(text) is not None or text.startswith("-")]
        taken = taken[: ends[0]] if ends else taken
    else:
        taken = list(rest[: option.count])
    if len(taken) < (1 if option.fewer else option.count):
        raise InputError(f"{word}: {option.count} argument{'s' * (option.count > 1)} needed, {len(taken)} given")
    return taken


def _value(option: Option, word: str, text: str) -> Any:
    if option.read is None or find(text) is not None:
        raise InputError(f"{word}: an argument is needed, found the option {text}")
    try:
        return option.read(text)
    except (ValueError, OverflowError):
        kind = "a whole number" if option.read is whole else "a finite number"
        raise InputError(f"{word} {text[:40]}: {kind} is needed") from None


def parse(argv: Sequence[str], folder: Path = Path(), c_compat: bool = False) -> tuple[Scene, Outputs]:
    """Return the scene and the output files that a command line of the C program asks for.

    Parameters
    ----------
    argv : sequence of str
        The words after the program's name.
    folder : Path
        Where files that are named without a folder lie.
    c_compat : bool
        The C program's image (see `scene.Scene`) and its leniency: what it ignores is a warning in `Outputs.warnings`.
        The option ``--c-compat`` says the same.

    Raises
    ------
    InputError
        With the option in the message: it is unknown, badly given, without effect, or contradicts another.

    Examples
    --------
    >>> scene, outputs = parse("-cell 100 100 100 90 90 90 -N 5 -default_F 100 -detpixels 64".split())
    >>> scene.detector.shape, scene.detector.oversample, str(outputs.float_path)
    ((64, 64), 2, 'floatimage.bin')
    """
    from exactgrad.diffraction.assemble import outputs_of, scene_of

    given = read(argv, folder, c_compat)
    scene = scene_of(given)
    return scene, outputs_of(given, scene)
