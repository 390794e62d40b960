"""The run report: valid, self-contained, and harmless whatever the texts hold."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.errors import InputError
from exactgrad.report import style
from exactgrad.report.page import Entry, Page, index_page, png_size

VOID = {"meta", "link", "img", "br", "hr", "input"}
EVIL = '<script>alert("1")</script>\'"&</title></style><img src=x onerror=alert(2)>'


@pytest.fixture(scope="module")
def png():
    return style.png_bytes(style.figure(2.0, 1.0))


class Reader(HTMLParser):
    """Checks balance while it reads; keeps tags, attributes and the text of each kind of element."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts = [], [], {}
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag] = self.texts.get(tag, "") + data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def full_page(png, text="plain"):
    page = Page(text, text)
    page.numbers([(text, 0.99986, text, text), ("n", 3, "", ""), ("w", text, "", "")])
    page.warnings([text])
    page.figure(text, png, text)
    page.figure("second", png)
    page.table(text, [text, "x"], [[text, 1.0], ["b", None]], text)
    page.text(text, [text, text])
    page.code(text, text)
    page.summary({text: text, "parts": [text, text], "rows": [{"not": "plain"}]})
    return page.html()


@pytest.mark.parametrize("text", ["plain", EVIL])
def test_tags_are_balanced_and_only_ours(png, text):
    reader = Reader(full_page(png, text))
    assert len(reader.all("script")) == len(reader.all("style")) == len(reader.all("title")) == 1
    assert len(reader.all("img")) == 2 and len(reader.all("h1")) == 1
    for tag, attrs in reader.tags:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], tag
    assert reader.texts["title"] == reader.texts["h1"] == text
    assert text in reader.texts["td"] and text in reader.texts["figcaption"] and reader.texts["code"] == text


@given(st.text(max_size=40))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_any_text_comes_out_as_text(text):
    page = Page(text, text)
    page.code(text, text)
    page.table(text, [text], [[text]])
    reader = Reader(page.html())
    assert len(reader.all("script")) == 1
    # HTML's own reading of line ends and of the characters it forbids
    assert reader.texts.get("title", "").split() == HTMLText(text).split()


def HTMLText(text):
    """What the parser makes of a text once it was escaped."""
    import html

    return html.unescape(html.escape(text))


def test_nothing_is_fetched(png):
    html = full_page(png, EVIL) + index_page([Entry(EVIL, "a/b c.html", EVIL, [(EVIL, 1, "", "")], png)])
    for tag, attrs in Reader(full_page(png)).tags:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert attrs.get(name, "data:").startswith("data:"), (tag, attrs[name])
    assert not re.search(r"https?:|url\(|@import|//[a-z]", html.replace("// ", ""))


def test_policy_allows_exactly_our_style_and_script(png):
    html = full_page(png)
    policy = next(a["content"] for a in Reader(html).all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("style", "script"):
        content = html.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_document_says_what_it_is(png):
    html = full_page(png)
    reader = Reader(html)
    metas = {attrs.get("name"): attrs.get("content") for attrs in reader.all("meta")}
    assert html.startswith("<!DOCTYPE html>") and reader.all("html")[0]["lang"] == "en"
    assert "utf-8" in {attrs.get("charset") for attrs in reader.all("meta")}
    assert metas["viewport"].startswith("width=device-width") and metas["color-scheme"] == "light dark"
    assert "prefers-color-scheme: dark" in html


def test_pictures_are_the_png_with_size_and_alt(png):
    for attrs in Reader(full_page(png)).all("img"):
        body = attrs["src"].removeprefix("data:image/png;base64,")
        assert base64.b64decode(body, validate=True) == png
        assert (int(attrs["width"]), int(attrs["height"])) == png_size(png) and attrs["alt"]


@pytest.mark.parametrize("bad", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"x" * 40])
def test_what_is_no_png_is_refused(bad):
    with pytest.raises(ValueError, match="not a PNG"):
        Page("t").figure("f", bad)


def test_a_summary_is_folded_with_the_units_of_its_keys():
    page = Page("t")
    page.summary({"peak_hz": 5000.0, "seconds": 1.5, "shape": [12, 8], "files": ["a", "b"], "none": [], "rows": [{}]})
    reader = Reader(page.html())
    assert len(reader.all("details")) == 1 and reader.texts["summary"] == "All of summary.json"
    rows = reader.texts["tbody"].split("\n")
    assert [row for row in rows if row] == ["peak_hz5000Hz", "seconds1.5s", "shape12, 8", "filesa; b", "nonenone"]


def test_wide_figures_take_the_width_of_the_page():
    for size, kind in (((2.0, 2.0), "<figure>"), ((4.0, 2.0), '<figure class="wide">')):
        page = Page("t")
        page.figure("f", style.png_bytes(style.figure(*size)))
        assert kind in page.html()


def test_figures_in_a_row_share_a_grid(png):
    page = Page("t")
    page.figure("a", png)
    page.figure("b", png)
    page.text("between", ["x"])
    page.figure("c", png)
    html = page.html()
    assert html.count('<section class="figures">') == 2
    first = html.split('<section class="figures">')[1].split("</section>")[0]
    assert first.count("<figure") == 2


def test_numbers_stand_right_and_sort_by_their_full_value():
    page = Page("t")
    page.table("t", ["name", "loss"], [["a", 0.12345678], ["b", "1e-3"], ["c", None]])
    reader = Reader(page.html())
    cells = reader.all("td")
    assert ["num" in (cell.get("class") or "") for cell in cells] == [False, True] * 3
    keys = [cell.get("data-key") for cell in cells]
    assert keys == [None, "0.12345678", None, "0.001", None, None]
    assert [th.get("class") for th in reader.all("th")] == [None, "num"]


def test_table_refuses_a_short_row():
    with pytest.raises(ValueError, match="row 0 has 1 cells"):
        Page("t").table("t", ["a", "b"], [[1]])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-0.5, "−0.5"), (1.5e-7, "1.5\u2009×\u200910<sup>−7</sup>"), (12, "12"), ("a-b", "a-b"), (None, "–")],
)
def test_a_number_is_written_as_in_print(value, shown):
    page = Page("t")
    page.numbers([("x", value, "kHz", "")])
    assert f'<span>{shown}</span>\u2009<span class="unit">kHz</span>' in page.html()


def test_nothing_is_drawn_where_there_is_nothing():
    page = Page("t")
    page.warnings([])
    assert '<section class="warnings"' not in page.html() and 'class="subtitle"' not in page.html()


def test_same_page_same_bytes(png):
    assert full_page(png) == full_page(png)


def test_index_leads_to_each_report(png):
    html = index_page([Entry("A", "a/r 1.html", "t", [("q", 0.5, "", "")], png), Entry("B", "b.html")], "demo", "sub")
    reader = Reader(html)
    assert [a["href"] for a in reader.all("a")] == ["a/r%201.html", "b.html"]
    assert len(reader.all("article")) == 2 and len(reader.all("img")) == 1


@pytest.mark.parametrize("link", ["http://x.org", "javascript:alert(1)", "//x.org/a", "/etc/passwd", "\\\\x", ""])
def test_index_refuses_a_link_that_leaves(link):
    with pytest.raises(InputError, match="relative"):
        index_page([Entry("A", link)])
