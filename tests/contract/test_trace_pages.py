"""The pages of docs/traces say what the code says; and the comparison sees what it shall."""

import importlib.util
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "docs" / "traces" / "generate.py"


def generate():
    specification = importlib.util.spec_from_file_location("generate_traces", FILE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_pages_are_what_the_code_says():
    assert generate().main(["--check"]) == 0, "docs/traces is stale: run python docs/traces/generate.py"


def test_the_comparison_sees_words_and_numbers_but_not_rounding():
    differs = generate().differs
    page = "| loss | -84016.0343535 | 1e-16 |\nThe loss (1458.64): increase it."
    assert not differs(page, page.replace("535 ", "541 ").replace("1e-16", "3e-15"))
    assert differs(page, page.replace("84016", "84216"))
    assert differs(page, page.replace("-84016", "84016"))
    assert differs(page, page.replace("increase", "decrease"))
