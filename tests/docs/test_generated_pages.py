"""The pages that are made from the code say what the code says."""

import re
import subprocess
import sys
from pathlib import Path

from exactgrad.pulses.formats import list_formats

ROOT = Path(__file__).resolve().parents[2]


def test_the_pages_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_key_without_a_meaning_and_a_meaning_without_a_key_are_errors():
    script = """
import sys; sys.path.insert(0, "docs")
from generators import job_page
from exactgrad.core.job_file import Table
class Scan(Table):
    steps: int
class Job(Table):
    scan: Scan
for meaning in ({}, {"Scan.steps": ("", "How many."), "Scan.speed": ("", "How fast.")}):
    try:
        job_page.page("", Job, (("[scan]", "Scan", "A scan."),), meaning)
    except SystemExit as error:
        print(error)
try:
    job_page.page("", Job, (), {})
except SystemExit as error:
    print(error)
print(job_page.page("", Job, (("[scan]", "Scan", "A scan."),), {"Scan.steps": ("s", "How many.")}))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert "no meaning for Scan.steps" in lines[0] and "Scan.speed" in lines[1] and "in no section: Scan" in lines[2]
    assert "| `steps` | s | whole number | needed | How many. |" in lines, done.stderr


def test_the_formats_page_lists_every_format():
    page = (ROOT / "docs" / "pulses" / "formats.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z]+)` \| `(\.\w+)` \|", page, re.MULTILINE))
    assert rows == {name: item.suffix for name, item in list_formats().items()}
