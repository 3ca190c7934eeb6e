"""docs/images/demo.svg is what `make demo` says today; a picture here can do nothing but be looked at."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from deploy.recording import LONGEST_PAUSE, picture, read, record

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "support-desk"
PICTURE = ROOT / "docs" / "images" / "demo.svg"
SVG = "{http://www.w3.org/2000/svg}"
PICTURES = sorted(PICTURE.parent.iterdir())
ALLOWED = {"svg", "title", "desc", "style", "rect", "g", "text", "path", "circle", "defs", "marker"}
STEP = re.compile(r" ?(\d+)  (\S.*)")
RAW_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.")


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314  our own


def shown(svg: str) -> list[str]:
    """Return the lines of a picture, top to bottom, each part in its column."""
    rows: dict[float, list[tuple[float, str]]] = defaultdict(list)
    for text in parsed(svg).iter(f"{SVG}text"):
        rows[float(text.attrib["y"])].append((float(text.attrib["x"]), text.text or ""))
    return ["  ".join(part for _, part in sorted(row)) for _, row in sorted(rows.items())]


def titles() -> Iterator[str]:
    """The steps as the story tells them now, in its order."""
    functions = {
        (path.stem, node.name): node
        for path in DEMO.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    for module, name in re.findall(r"(\w+)\.(\w+)\(narrator, stage", (DEMO / "story.py").read_text()):
        (title,) = re.findall(r"narrator\.begin\('(.*?)'\)", ast.unparse(functions[module, name]))
        yield title


def test_it_shows_the_steps_of_the_demonstration() -> None:
    found = [match.groups() for line in shown(PICTURE.read_text()) if (match := STEP.fullmatch(line))]
    wanted = [(str(number), title) for number, title in enumerate(titles(), 1)]
    assert len(wanted) >= 10
    steps = [step for step in found if step in wanted]
    assert steps == wanted, "run: make recording"
    assert f"All {len(wanted)} steps did what they say." in PICTURE.read_text()


def test_it_is_drawn_by_the_program_of_today() -> None:
    """What the style, the frame and a line look like: a change of the drawing shows here."""
    drawn = picture(read([(0.0, "x")]))
    style = re.search(r"<style>\n(.*?)</style>", drawn, re.DOTALL)
    assert style is not None
    assert style[1] in PICTURE.read_text(), "run: make recording"


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_holds_no_script_and_nothing_from_outside(path: Path) -> None:
    text = path.read_text()
    assert {element.tag.removeprefix(SVG) for element in parsed(text).iter()} <= ALLOWED
    assert re.findall(r"href|url\((?!#)|@import|<!|javascript:|\son\w+=", text) == []
    assert set(re.findall(r"https?://([\w.]+)", text)) <= {"www.w3.org", "broker.example.org", "127.0.0.1"}, (
        "no address but its own"
    )
    assert len(text.encode()) < 150_000


def test_it_tells_no_secret_and_nothing_of_the_machine_that_made_it() -> None:
    text = PICTURE.read_text()
    joined = "".join("".join(shown(text)).split())
    assert "cred_" in joined, "there is something to look through"
    assert RAW_TOKEN.findall(joined) == []
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|usr|var)/", text) == []
    assert set(re.findall(r"(?:on port |127\.0\.0\.1:)(\d+)", text)) == {"10001", "10002", "10003", "10004"}
    assert set(re.findall(r"is process (\d+)", text)) == {"101", "102"}


RUN = [
    (0.0, "\x1b[1;36m 1  \x1b[0m\x1b[1mA step <with> marks\x1b[0m"),
    (0.1, "    \x1b[2masked      \x1b[0m127.0.0.1:{port}, cred_{id}, cred_{other}"),
    (0.1, "    \x1b[2mdecided    \x1b[0m\x1b[32mkey {digest}\x1b[0m, again cred_{id}"),
    (0.2, "               \x1b[36mexp  \x1b[0m{exp}  (10:20:41 UTC)"),
    (0.2, "               \x1b[36miat  \x1b[0m{iat}  (10:15:41 UTC)"),
    (9.2, "    \x1b[2mcame back  \x1b[0m\x1b[31mafter 12.{tenth} ms\x1b[0m, process is process {port}"),
]


def run(values: dict[str, str]) -> str:
    return picture(read([(at, line.format(**values)) for at, line in RUN]))


FIRST = {
    "port": "29874", "id": "01a1fd9a-c808-78cd-9aa6-cc4b7870ecab", "other": "01a1fd9a-c808-71f5-bce0-5e8c4e307285",
    "digest": "EHKGAUO_FxRAcbmA0WgeEqmycl25dI6dcTDEm9PeV6o", "exp": "1795256441", "iat": "1795256141",
    "tenth": "1",
}  # fmt: skip
SECOND = {
    "port": "3301", "id": "01a1fd9b-0000-7000-8000-000000000001", "other": "01a1fd9b-0000-7000-8000-000000000002",
    "digest": "S_MSo_wF-5aZbzXEjQu5yIcAEnWjte2aipaxzQROf0A", "exp": "1895256441", "iat": "1895256141",
    "tenth": "3",
}  # fmt: skip


def test_two_runs_of_one_story_give_one_picture() -> None:
    first = run(FIRST)
    assert first == run(SECOND)
    assert not [value for value in FIRST.values() if len(value) > 1 and value in first]
    assert first != run({**FIRST, "other": FIRST["id"]}), "what was two ids stays two"
    assert "iat  1767268800  (12:00:00 UTC)" in shown(first)
    assert "exp  1767269100  (12:05:00 UTC)" in shown(first), "what lies between two moments stays"


def test_lines_appear_when_they_were_said_and_with_what_they_hang_from() -> None:
    svg = run(FIRST)
    delays = dict(re.findall(r"#(b\d+)\{animation-delay:([\d.]+)s\}", svg))
    groups = {g.attrib["id"]: len({t.attrib["y"] for t in g}) for g in parsed(svg).iter(f"{SVG}g")}
    assert groups == {"b0": 1, "b1": 1, "b2": 3, "b3": 1}, "the members belong to the line above them"
    assert delays == {"b3": f"{LONGEST_PAUSE:g}"}, "a long wait is shortened"
    assert "A step &lt;with&gt; marks" in svg


def test_a_program_is_recorded_as_on_a_terminal_and_a_failed_one_is_not() -> None:
    colour = "from rich.console import Console; Console().print('[green]so[/]'); print('be it')"
    said = record([sys.executable, "-c", colour])
    assert [line for _, line in said] == ["\x1b[32mso\x1b[0m", "be it"]
    assert said[0][0] == 0.0 <= said[1][0]
    with pytest.raises(subprocess.CalledProcessError) as failed:
        record([sys.executable, "-c", "print('half'); raise SystemExit(3)"])
    assert (failed.value.returncode, failed.value.output) == (3, "half")
