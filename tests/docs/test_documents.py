"""Everything that README and docs show is run and compared, by one harness; and the harness sees what it shall."""

import re

import pytest
from documents import DOCUMENTS, ROOT, Broken, Runner, blocks, commands, differs

SHOWN = [path for path in DOCUMENTS if blocks(path.read_text())]


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_shows_is_so(path, tmp_path):
    Runner(tmp_path).run(path.read_text())


def test_the_readme_shows_python_and_the_command_line():
    kinds = {kind for kind, _ in blocks((ROOT / "README.md").read_text())}
    assert "python" in kinds and kinds & {"bash", "console"}


def test_every_block_is_of_a_kind_that_is_run_or_for_the_eye():
    for path in DOCUMENTS:
        kinds = set(re.findall(r"^ *```(\w*)[^\n]*\n.*?^ *```$", path.read_text(), re.MULTILINE | re.DOTALL))
        assert kinds <= {"toml", "python", "console", "bash", "sh", "text"}, f"{path}: {kinds}"


def test_links_between_documents_lead_somewhere():
    for path in [*DOCUMENTS, ROOT / "CHANGELOG.md"]:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            assert link.startswith("https://") or (path.parent / link).exists(), f"{path}: {link}"


TRANSCRIPT = "```console\n$ echo one  two\none two\n$ false || exit 3\n$ echo $?\n3\n```\n"


def test_a_true_transcript_passes(tmp_path):
    Runner(tmp_path).run(TRANSCRIPT)


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ("one two\n", "one three\n"),
        ("\n3\n", "\n2\n"),
        ("$ echo $?\n3\n", ""),
        ("one two\n", ""),
        ("$ echo one", "echo one"),
    ],
)
def test_a_false_transcript_is_seen(tmp_path, true, false):
    with pytest.raises(Broken):
        Runner(tmp_path).run(TRANSCRIPT.replace(true, false, 1))


def test_python_blocks_share_names_and_files_and_errors_are_seen(tmp_path):
    text = '```toml\n# a.toml\nx = 1\n```\n```python\nx = open("a.toml").read()\n```\n'
    text += '```python\nassert "x = 1" in x\n```\n'
    Runner(tmp_path).run(text)
    with pytest.raises(Broken, match="AssertionError"):
        Runner(tmp_path).run(text.replace('= 1" in', '= 2" in'))


def test_dots_stand_for_anything_and_white_space_for_white_space():
    assert not differs("loss 0.99...\n...\nend\n", "loss   0.9991\n a\n b\nend\n")
    assert differs("loss 0.99...\nend\n", "loss 0.98\nend\n")
    assert list(commands("$ a \\\n  b\nout\n")) == [("a \\\n  b", "out\n")]
