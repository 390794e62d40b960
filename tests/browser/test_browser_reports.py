"""The demo's run folders and its pages, which are then looked at in a real browser: index, reports, a trace of each.

Screenshots are kept in the folder that the environment variable EXACTGRAD_SCREENSHOTS names, if it names one.
"""

import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest
from browser_driver import Browser, missing

from exactgrad.cli.main import main
from exactgrad.core.system import find_systems

SYSTEMS = list(find_systems())
PAGES = ["index.html", *(f"{name}/report.html" for name in SYSTEMS), *(f"trace_{name}.html" for name in SYSTEMS)]
each_page = pytest.mark.parametrize("name", PAGES)
DESK, PHONE = (1280, 900), (375, 812)
WIDEST = "return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - window.innerWidth"
UNSEEN = """return [...document.images].filter(i => {
    const box = i.getBoundingClientRect();
    return !(i.complete && i.naturalWidth > 0 && box.width > 40 && box.height > 20);
}).map(i => i.alt)"""
CROWDED = """return [...document.querySelectorAll('h1, h2, p, td, th, figcaption')].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && !e.closest('.scroll') && (box.left < -1 || box.right > window.innerWidth + 1);
}).concat([...document.querySelectorAll('.card span')].filter(e =>
    e.getBoundingClientRect().right > e.closest('.card').getBoundingClientRect().right
)).map(e => e.textContent)"""
COLUMN = "return [...document.querySelector('table').tBodies[0].rows].map(row => row.cells[0].textContent)"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder with all pages, as the commands write them: one demo for all tests here."""
    folder = tmp_path_factory.mktemp("site") / "demo"
    assert main(["demo", "--out", str(folder)]) == 0
    for name in SYSTEMS:
        parameter = find_systems()[name].load("traced")()[0]
        assert main(["trace", name, parameter, "--html", str(folder / f"trace_{name}.html")]) == 0
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if missing():
        pytest.skip(missing())
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.quit()


def keep(browser: Browser, name: str, how: str, whole: bool = True) -> None:
    folder = os.environ.get("EXACTGRAD_SCREENSHOTS")
    if folder:
        browser.screenshot(Path(folder) / f"{name.replace('/', '_').removesuffix('.html')}_{how}.png", whole)


def summary_of(site: Path, name: str) -> dict:
    return json.loads((site / name / "summary.json").read_text())


def test_the_demos_results_are_good(site):
    pulse, crystal, scan = (summary_of(site, name) for name in ("pulses", "diffraction", "tomography"))
    assert pulse["quality"] > 0.99 and pulse["quality_dense_min"] > 0.99 and pulse["certificate_error"] < 1e-6
    assert crystal["status"] == scan["status"] == "converged"
    assert 0.9 < crystal["chi2"] < 1.1 and not crystal["failed"]
    from exactgrad.diffraction.from_job import shots
    from exactgrad.diffraction.job import check_job

    true = (Path(__file__).parents[2] / "src/exactgrad/diffraction/demo.toml").read_text()
    truth = shots(check_job(tomllib.loads(true), "demo.toml"), Path())[0].settings
    for row in crystal["parameters"]:
        assert abs(row["value"] - truth.value(row["name"])) < 4 * row["esd"], row
        assert row["name"] == "fluence" or abs(row["start"] - truth.value(row["name"])) > 5 * row["esd"], row
    assert scan["axis_error_median_deg"] < 2.5 and scan["wrong_sign_fraction"] < 0.02
    assert scan["relative_error_A"] < 0.1 and 0.8 < scan["reduced_chi2"] < 1.4


def test_every_demo_leaves_its_job_and_a_picture_for_the_index(site):
    index = (site / "index.html").read_text()
    assert index.count("<img") == len(SYSTEMS)
    for name in SYSTEMS:
        text = (site / name / "job.toml").read_text()
        page = (site / name / "report.html").read_text()
        assert tomllib.loads(text) and text.splitlines()[0] in page and "The command that repeats it" in page
        assert summary_of(site, name)["headline"] and summary_of(site, name)["message"] in index


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_report_made_anew_is_the_runs_to_the_byte(site, tmp_path, name, capsys):
    folder = tmp_path / name
    shutil.copytree(site / name, folder)
    kept = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    ours = [path for path in kept if path.suffix in (".png", ".html") and path.parent == Path()]
    ours.remove(Path("beside_truth.png")) if name == "tomography" else None
    assert len(ours) > 5
    for path in ours:
        (folder / path).unlink()
    assert main(["report", str(folder)]) == 0
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found.keys() == kept.keys()
    assert [str(path) for path in kept if found[path] != kept[path]] == []

    (folder / "summary.json").unlink()
    capsys.readouterr()
    assert main(["report", str(folder)]) == 2
    assert "this run was cut off: summary.json missing" in capsys.readouterr().err


def test_a_report_of_damaged_results_is_refused_and_nothing_is_written(site, tmp_path, capsys):
    for name in SYSTEMS:
        folder = tmp_path / name
        shutil.copytree(site / name, folder)
        (folder / "result.h5").write_bytes((folder / "result.h5").read_bytes()[:-100])
        (folder / "report.html").write_text("old")
        assert main(["report", str(folder)]) == 2
        assert capsys.readouterr().err.count("\n") == 1 and (folder / "report.html").read_text() == "old"


@each_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_page_opens_whole_and_asks_for_nothing(site, browser, name, scheme, size):
    browser.look(*size, scheme, phone=size == PHONE)
    browser.open(site / name)
    assert browser.complaints() == []
    asked = [url for url in browser.requested() if not url.startswith("data:")]
    assert asked == [(site / name).as_uri()]
    assert browser.run("return document.images.length") > 0 and browser.run(UNSEEN) == []
    assert browser.run(WIDEST) <= 0 and browser.run(CROWDED) == []
    ground, ink = browser.run("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
    light = [sum(map(int, color.removeprefix("rgb(").removesuffix(")").split(","))) for color in (ground, ink)]
    assert (light[0] > light[1] + 300) if scheme == "light" else (light[1] > light[0] + 300)
    keep(browser, name, f"{'phone' if size == PHONE else 'desk'}_{scheme}")


def test_the_checks_see_what_is_wrong(browser, tmp_path):
    page = tmp_path / "wrong.html"
    page.write_text(
        "<!DOCTYPE html><title>t</title><img src='missing.png' alt='gone'><p style='width: 3000px'>too wide</p>"
        "<div class='card' style='width: 10px'><span>out_of_its_card</span></div>"
        "<script>console.error('complaint')</script>"
    )
    browser.look(*PHONE, phone=True)
    browser.open(page)
    assert any("complaint" in text for text in browser.complaints())
    assert [Path(url).name for url in browser.requested()] == ["wrong.html", "missing.png"]
    assert browser.run(UNSEEN) == ["gone"] and browser.run(CROWDED) == ["too wide", "out_of_its_card"]


@pytest.mark.parametrize("name", [page for page in PAGES if page != "index.html"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_click_zooms_a_figure_and_another_closes_it(site, browser, name, size):
    browser.look(*size, phone=size == PHONE)
    browser.open(site / name)
    small = browser.run("return document.querySelector('.zoom img').getBoundingClientRect().width")
    browser.click("button.zoom")
    large = browser.run("return document.querySelector('dialog[open] img').getBoundingClientRect().width")
    assert large > 1.2 * small or large > 0.7 * size[0]
    keep(browser, name, f"zoom_{'phone' if size == PHONE else 'desk'}", whole=False)
    browser.click("dialog")
    browser.until("return document.querySelectorAll('dialog').length", 0)
    browser.click("button.zoom")
    browser.press_escape()
    browser.until("return document.querySelectorAll('dialog').length", 0)
    assert browser.complaints() == []


@pytest.mark.parametrize("name", [page for page in PAGES if page != "index.html"])
def test_a_click_on_a_heading_sorts_its_table(site, browser, name):
    browser.look(*DESK)
    browser.open(site / name)
    browser.run("for (const d of document.querySelectorAll('details')) d.open = true")
    before = browser.run(COLUMN)
    browser.click("table th button")
    up = browser.run(COLUMN)
    browser.click("table th button")
    down = browser.run(COLUMN)
    assert sorted(up) == sorted(before) and up == down[::-1]
    assert browser.run("return document.querySelector('th').getAttribute('aria-sort')") == "descending"


def test_numbers_sort_as_numbers(site, browser):
    browser.look(*DESK)
    browser.open(site / "diffraction/report.html")
    keys = "return [...document.querySelector('table').tBodies[0].rows].map(r => Number(r.cells[1].dataset.key))"
    browser.click("table th:nth-child(2) button")
    values = browser.run(keys)
    assert values == sorted(values) and len(set(values)) > 3


def test_the_index_leads_to_every_report(site, browser):
    browser.look(*DESK)
    for number, name in enumerate(SYSTEMS, 1):
        browser.open(site / "index.html")
        browser.click(f".entry:nth-child({number}) a")
        browser.until("return location.href", (site / name / "report.html").as_uri())
        browser.until("return document.readyState", "complete")
        assert browser.run("return document.querySelectorAll('pre').length") >= 2


def test_a_folded_table_opens(site, browser):
    browser.look(*DESK)
    browser.open(site / f"{SYSTEMS[0]}/report.html")
    assert not browser.run("return document.querySelector('details').open")
    browser.click("details summary")
    assert browser.run("return document.querySelector('details table').getBoundingClientRect().height") > 100
