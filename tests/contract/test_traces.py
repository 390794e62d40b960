"""Every parameter of every system that traces: forward and backward agree, and the stages are the kernel's."""

import json

import numpy as np
import pytest

from exactgrad.cli.main import main
from exactgrad.core.system import find_systems
from exactgrad.errors import InputError

TRACED = [(system, name) for system in find_systems().values() if system.trace for name in system.load("traced")()]


@pytest.mark.parametrize(("system", "name"), TRACED, ids=[f"{system.name}-{name}" for system, name in TRACED])
def test_forward_backward_and_kernel_agree(system, name):
    trace = system.load("trace")(name, None)
    assert trace.disagreement <= 1e-10 and trace.off_kernel <= 1e-12 and trace.agrees
    assert trace.parameter == name and trace.meaning and trace.words and len(trace.stages) >= 4
    assert np.isfinite(trace.derivative) and all(np.isfinite(picture.values).all() for picture in trace.pictures)
    assert all(abs(value) <= 1 + 1e-12 for _, value in trace.correlations)


@pytest.mark.parametrize("system", [s for s in find_systems().values() if s.trace], ids=lambda s: s.name)
def test_an_unknown_parameter_is_one_line(system):
    with pytest.raises(InputError, match="no such parameter"):
        system.load("trace")("no_such_thing", None)


@pytest.mark.parametrize("system", [s for s in find_systems().values() if s.trace], ids=lambda s: s.name)
def test_the_command_prints_writes_and_overwrites_nothing(system, tmp_path, capsys):
    name, page = system.load("traced")()[0], tmp_path / "page.md"
    assert main(["trace", system.name, name, "--markdown", str(page), "--json"]) == 0
    out = capsys.readouterr().out
    summary = json.loads(out.splitlines()[-1])
    assert summary["status"] == "ok" and summary["disagreement"] <= 1e-10 and summary["stages"]
    text = page.read_text()
    assert all((tmp_path / line.split("](")[1][:-1]).exists() for line in text.splitlines() if line.startswith("!["))
    browsed = tmp_path / "page.html"
    assert main(["trace", system.name, name, "--html", str(browsed)]) == 0
    html = browsed.read_text()
    assert f"exactgrad trace {system.name} {name}" in html and "In plain words" in html and "<img" in html
    assert main(["trace", system.name, name, "--html", str(browsed)]) == 2 and browsed.read_text() == html
    assert main(["trace", system.name, name, "--markdown", str(page)]) == 2
    assert page.read_text() == text
    assert main(["trace", system.name, "list"]) == 0
    assert main(["trace", system.name, "nonsense"]) == 2
