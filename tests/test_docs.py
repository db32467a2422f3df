"""The documentation: it builds without a warning, and names only what there is."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import ash_core
from ash_core.commands.usage import parse_command

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = (*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
CITED = re.compile(r"docs/released_behaviour\.md ((?:[A-D]\d*(?:-[A-D]\d+)?)(?:, [A-D]\d+)*)")
PATH = re.compile(r"`((?:ash_core|viewer|tests|shaders|docs|assets|examples)/[\w./*-]*)`")
REMOTE = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"'](?:https?:)?//[^>]*>")
FAULTS = ("[x](gone.md)", "[x](other.md#gone)", "![x](gone.png)", "::: ash_core.gone")
NO_PROSE = re.compile(r"(    |#|:::|!\[|<!--|--8<--)")
MOST_WORDS = 25


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """Return docs/hooks.py, which MkDocs loads by its path."""
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build a site as `make docs` does."""
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: make docs installs it (requirements.lock)")
    # Never --quiet: it hides warnings from the strict mode that counts them.
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(out)]
    return subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    assert not re.search("WARNING|ERROR", done.stdout + done.stderr), done.stderr
    for page in DOCS.glob("*.md"):
        text = (tmp_path / page.with_suffix(".html").name).read_text()
        assert "<h1" in text, page
        assert "<!-- help" not in text, page
        assert not REMOTE.findall(text), page
    assert "--test-cameras" in (tmp_path / "command_line.html").read_text()
    assert "Ctrl+Z" in (tmp_path / "window.html").read_text()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_reference_fails_the_build(tmp_path: Path, fault: str) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.md").write_text(f"# Page\n\n{fault}\n")
    (pages / "other.md").write_text("# Other\n")
    (pages / "site.css").touch()
    (tmp_path / "docs").symlink_to(DOCS)  # settings name files beside themselves
    settings = tmp_path / "mkdocs.yml"
    settings.write_text(f"INHERIT: {ROOT}/mkdocs.yml\ndocs_dir: pages\nhooks: []\nnav: null\n")
    done = build(tmp_path / "site", "--config-file", str(settings))
    assert done.returncode != 0
    assert "gone" in done.stderr


def test_every_public_name_is_documented(hooks: ModuleType) -> None:
    assert hooks.undocumented((DOCS / "library.md").read_text()) == []
    for name in getattr(ash_core, "__all__", ()):
        if not name.startswith("__"):
            assert (getattr(ash_core, name).__doc__ or "").strip(), f"ash_core.{name}: no docstring"


def test_an_undocumented_public_name_is_found(
    hooks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ash_core, "__all__", ["Scene", "Renderer"], raising=False)
    assert hooks.undocumented("::: ash_core.Scene\n") == ["Renderer"]


def test_every_command_has_a_section_and_a_line(hooks: ModuleType) -> None:
    readme, page = (ROOT / "README.md").read_text(), (DOCS / "command_line.md").read_text()
    names = [name for name, _ in hooks.command_names()]
    assert "import bvh" in names
    assert "view" in names
    for name in names:
        assert f"`ash-studio {name}`" in readme, f"README.md: no line for ash-studio {name}"
        assert f"<!-- help {name} -->" in page, f"command_line.md: no section for {name}"
    shown = re.findall(r"<!-- help ([\w -]+) -->", page)
    assert sorted(shown) == sorted(names)


def command_lines() -> Iterator[tuple[str, str]]:
    """List page and words of every `ash-studio` command in a block of code."""
    for page in PAGES:
        for line in page.read_text().replace("\\\n", " ").splitlines():
            if re.match(r"(    |\$ )?ash-studio \S", line):
                for part in line.partition(" #")[0].split("&&"):
                    yield page.name, part.strip().removeprefix("$ ")


def test_the_commands_in_the_pages_are_right() -> None:
    lines = list(command_lines())
    assert len(lines) > 20
    for page, line in lines:
        try:
            parse_command(shlex.split(line)[1:])
        except ValueError as error:  # InputError is one
            pytest.fail(f"{page}: {line}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_files_that_exist(page: Path) -> None:
    for name in PATH.findall(page.read_text()):
        assert list(ROOT.glob(name.rstrip("/"))), f"{page.name}: no such file: {name}"


def test_cited_behaviours_are_described() -> None:
    text = (DOCS / "released_behaviour.md").read_text()
    items = set(re.findall(r"\{ #([a-d]\d+) \}", text)) | {"a", "b", "c", "d"}
    cited = 0
    for folder in ("ash_core", "viewer", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix not in (".py", ".cu") or path == Path(__file__):
                continue
            assert "ODD" + "ITIES" not in path.read_text(), f"{path}: cites a page that is not here"
            for match in CITED.finditer(path.read_text()):
                for item in re.split(r", |-", match[1]):
                    assert item.lower() in items, f"{path}: no item {item}"
                    cited += 1
    assert cited > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sentences_are_short(page: Path) -> None:
    long = [text for text in sentences(page.read_text()) if len(text.split()) > MOST_WORDS]
    assert not long, "\n".join(long)


def sentences(markdown: str) -> Iterator[str]:
    """Split a page into sentences: without code, tables, headings and marks."""
    text = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    kept = [line for line in text.splitlines() if not NO_PROSE.match(line)]
    # Each cell of a table and each item of a list is a sentence of its own.
    text = "\n".join(re.sub(r"\s*\|\s*", "\n\n", line) for line in kept)
    text = re.sub(r"^\s*[-*] ", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`|\[([^\]]*)\]\([^)]*\)", lambda m: m[1] or "code", text)
    for paragraph in re.split(r"\n\s*\n", text):
        yield from re.split(r"(?<=[.!?;])\s+", " ".join(paragraph.split()))
