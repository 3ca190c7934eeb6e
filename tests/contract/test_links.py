"""Every link from one page to another arrives, and every page of the documentation can be reached from the README."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "examples").rglob("*.md"),
    *(ROOT / "deploy").rglob("*.md"),
    ROOT / "tests" / "vectors" / "README.md",
]
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^()\s]+)\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z]+:")


@dataclass(frozen=True)
class Link:
    """A link as it stands on a page."""

    page: Path
    target: str

    @property
    def file(self) -> Path:
        path = self.target.partition("#")[0]
        return (self.page.parent / path).resolve() if path else self.page

    @property
    def anchor(self) -> str:
        return self.target.partition("#")[2]


def links(page: Path) -> Iterator[Link]:
    text = CODE.sub("code", FENCE.sub("", page.read_text()))
    for one, other in LINK.findall(text):
        if not ELSEWHERE.match(one or other):
            yield Link(page, one or other)


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found


ALL = [link for page in PAGES for link in links(page)]


def test_there_are_links_to_look_at() -> None:
    assert len(ALL) > 80
    assert sum(bool(link.anchor) for link in ALL) > 10
    assert anchors(ROOT / "docs" / "cli.md") >= {"broker-serve", "exit-status", "which-broker-as-whom"}


@pytest.mark.parametrize("link", ALL, ids=lambda link: f"{link.page.relative_to(ROOT)}:{link.target}")
def test_a_link_arrives(link: Link) -> None:
    assert link.file.exists(), f"{link.page.relative_to(ROOT)} links to {link.target}, which is not there"
    assert link.file.is_relative_to(ROOT), "outside of the repository"
    if link.anchor:
        assert link.anchor in anchors(link.file), f"{link.file.relative_to(ROOT)} has no heading #{link.anchor}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        found = {link.file / "README.md" if link.file.is_dir() else link.file for link in links(page)}
        ahead += [file for file in found - reached if file.suffix == ".md" and file.exists()]
    assert [str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if page not in reached] == []


def test_every_picture_of_the_documentation_is_shown_somewhere() -> None:
    shown = {link.file for link in ALL}
    assert [path.name for path in (ROOT / "docs" / "images").iterdir() if path not in shown] == []
