"""docs/measure.py puts a benchmark's tables between their markers, and touches nothing else."""

import importlib.util
import re

from documents import ROOT

PAGE = "Before.\n\n<!-- measured: bench.py 3 -->\nold\n<!-- /measured -->\n\nAfter | all.\n"
BENCH = """\
import sys
from exactgrad.report.console import table

table("Squares", ("n", "n^2", "note"), ((n, n * n, "a|b") for n in range(int(sys.argv[1]))))
sys.exit(0)
"""


def measure():
    specification = importlib.util.spec_from_file_location("measure", ROOT / "docs" / "measure.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_tables_stand_between_their_markers_with_machine_versions_and_date(tmp_path):
    (tmp_path / "bench.py").write_text(BENCH)
    page = measure().measured(PAGE, root=tmp_path)
    assert page.startswith("Before.\n\n<!-- measured: bench.py 3 -->\n") and page.endswith(PAGE[-34:])
    assert "old" not in page
    assert "**Squares**\n\n| n | n^2 | note |\n|---:|---:|---|\n| 0 | 0 | a\\|b |\n| 1 | 1 | a\\|b |" in page
    assert re.search(r"`python bench.py 3`: \d{4}-\d\d-\d\d, .*cores, load average .*Python 3.*numpy.*numba", page)
    assert measure().measured(page, ["nothing of this"], tmp_path) == page


def test_every_benchmark_that_the_page_names_is_there():
    sections = measure().SECTION.findall((ROOT / "docs" / "performance.md").read_text())
    assert sections
    for _, file, *_ in sections:
        assert (ROOT / file).is_file()
