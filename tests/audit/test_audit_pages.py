"""Every row of the audit's tables names a test that exists, and every audit test is named by a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from audit_pages import table_rows

HERE = Path(__file__).parent
FILES = ("rotations", "pulses", "tomography")


def named_tests() -> set[str]:
    return {name for _, text in table_rows() for name in re.findall(r"`(test_audit_\w+)`", text)}


def written_tests() -> set[str]:
    sources = [ast.parse((HERE / f"test_audit_{name}.py").read_text()) for name in FILES]
    functions = [node.name for tree in sources for node in tree.body if isinstance(node, ast.FunctionDef)]
    tests = [name for name in functions if name.startswith("test_audit_")]
    assert len(tests) == len(set(tests)), "two audit tests share a name"
    return set(tests)


def test_every_row_names_a_test() -> None:
    without = [place for place, text in table_rows() if not re.search(r"`test_audit_\w+`", text)]
    assert not without


def test_every_named_test_exists_and_every_test_is_named() -> None:
    assert named_tests() == written_tests()
    assert len(written_tests()) > 60  # the pages were read
