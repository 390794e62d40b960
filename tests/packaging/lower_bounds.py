"""Print the least versions that pyproject.toml allows, one requirement a line, to test them:

    python3.11 -m venv least
    python tests/packaging/lower_bounds.py pulseq eiger > least.txt
    least/bin/pip install -r least.txt pytest pytest-xdist hypothesis mpmath
    least/bin/pip install --no-deps -e .
    least/bin/pytest -W ignore::DeprecationWarning tests    # warnings of old packages about newer ones they meet

With names of extras, those as well; what is not bounded is left out. `exactgrad verify` in that environment is the
shorter test.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[\w,-]+\])?\s*>=\s*([0-9][0-9.]*)")


def pins(extras: list[str]) -> list[str]:
    """Return `name==least` of every dependency and of those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = list(project["dependencies"])
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    found = [REQUIREMENT.match(requirement) for requirement in asked]
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in pins(sys.argv[1:])))
