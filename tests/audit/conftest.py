"""The audit pages beside the audit tests: a number that a page states is the one that its test measures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from audit_pages import table_rows


@pytest.fixture
def states(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Give a function that notes a measured number; the row that names the requesting test must state each of them."""
    name = getattr(request.node, "originalname", request.node.name)
    text = "\n".join(row for _, row in table_rows() if f"`{name}`" in row)
    missing: list[str] = []

    def check(number: str) -> None:
        if not re.search(rf"(?<![\d.]){re.escape(number)}(?!\d|\.\d)", text):
            missing.append(number)

    yield check
    assert not missing, f"{name} measures {', '.join(missing)}; its row: {text or 'there is none'}"
