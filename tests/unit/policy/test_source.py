"""Hot reload: a good bundle replaces the one in force, whole; a bad one changes nothing and says why (C5)."""

# ruff: noqa: E501  # a row of an attack table, and a policy, stand on one line

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest

from broker.policy.bundle import compile_bundle
from broker.policy.source import PolicySource, read_directory
from tests.unit.policy.bundles import EXAMPLE, added, replaced

Files = Mapping[str, bytes]


def write(directory: Path, files: Files) -> None:
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    for name, content in files.items():
        (directory / name).write_bytes(content)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "policy"
    write(directory, EXAMPLE)
    return directory


@pytest.fixture
def source(place: Path) -> PolicySource:
    source = PolicySource(place)
    assert source.current() is None
    assert source.load()
    return source


PERMIT = '@id("{0}") @max_lifetime("PT1M") permit (principal == Agent::"spiffe://example.org/agent/support-assistant", action == Action::"order.read", resource);'

BAD: dict[str, tuple[Callable[[], Files], str, str]] = {
    "half-written": (
        lambda: {**EXAMPLE, "writes.cedar": EXAMPLE["writes.cedar"][:900]},
        "writes.cedar:",
        "is not Cedar",
    ),
    "cut to nothing": (lambda: {**EXAMPLE, "writes.cedar": b""}, "writes.cedar:", "is empty"),
    "cut after a whole policy": (
        lambda: {**EXAMPLE, "writes.cedar": EXAMPLE["writes.cedar"].split(b"// A forbid wins")[0]},
        "golden.toml:",
        "support does not refund beyond the limit",
    ),
    "bad syntax": (lambda: added("reads.cedar", "permit (principal action);"), "reads.cedar:", "correct the policy"),
    "failing golden case": (lambda: replaced("writes.cedar", "> 5000", "> 6000"), "golden.toml:71", "gets deny SCOPE_EMPTY"),
    "duplicate id": (lambda: added("reads.cedar", PERMIT.format("support-may-refund")), "writes.cedar:", "give each its own"),
    "unknown annotation": (lambda: added("reads.cedar", "@once " + PERMIT.format("x")), "reads.cedar:", "@once"),
    "missing class": (
        lambda: replaced("schema.cedarschema", 'action "order.cancel" in ["write"]', 'action "order.cancel"'),
        "schema.cedarschema:",
        'in ["read"]',
    ),
    "removed owner": (
        lambda: replaced("entities.toml", 'security_owner = "Retail Security"\n', ""),
        "entities.toml:18",
        'write security_owner = ""',
    ),
    "golden cases removed": (
        lambda: {name: content for name, content in EXAMPLE.items() if name != "golden.toml"},
        "golden.toml:",
        "is missing",
    ),
    "stray file": (lambda: {**EXAMPLE, "old.cedar.bak": b""}, "old.cedar.bak:", "rename or remove"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "file", "fix"), BAD.values(), ids=BAD.keys())
def test_a_bad_bundle_changes_nothing(
    source: PolicySource, place: Path, change: Callable[[], Files], file: str, fix: str
) -> None:
    before = source.current()
    write(place, change())
    assert not source.refresh()
    assert source.current() is before
    assert any(line.startswith(file) and fix in line for line in source.problem.splitlines()), source.problem
    # And the way back is free.
    write(place, EXAMPLE)
    assert not source.refresh()
    assert source.current() is before
    assert source.problem == ""


def test_a_good_bundle_replaces_the_one_in_force(source: PolicySource, place: Path) -> None:
    before = source.current()
    assert before is not None
    files = added("reads.cedar", "// a word more")
    write(place, files)
    assert source.refresh()
    now = source.current()
    assert now is not None
    assert now.digest == compile_bundle(files).digest != before.digest
    assert source.problem == ""
    assert not source.refresh()
    assert source.current() is now


def test_a_change_of_equal_size_and_time_is_seen(source: PolicySource, place: Path) -> None:
    path = place / "writes.cedar"
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"a colleague has", b"a colleague HAS"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert source.refresh()


def test_nothing_is_in_force_before_there_was_a_good_bundle(tmp_path: Path) -> None:
    source = PolicySource(tmp_path / "absent")
    assert not source.load()
    assert source.current() is None
    assert "absent" in source.problem
    write(tmp_path / "absent", BAD["bad syntax"][0]())
    assert not source.refresh()
    assert source.current() is None
    assert "reads.cedar" in source.problem
    write(tmp_path / "absent", EXAMPLE)
    assert source.refresh()
    assert source.current() is not None


def test_a_directory_that_goes_away_changes_nothing(source: PolicySource, place: Path) -> None:
    before = source.current()
    place.rename(place.with_name("elsewhere"))
    assert not source.refresh()
    assert source.current() is before
    assert "stays in force" in source.problem
    place.with_name("elsewhere").rename(place)
    assert not source.refresh()
    assert source.problem == ""


def test_a_moved_link_swaps_all_files_at_once(tmp_path: Path) -> None:
    one, two = EXAMPLE, added("reads.cedar", "// second", added("writes.cedar", "// second"))
    write(tmp_path / "one", one)
    write(tmp_path / "two", two)
    link = tmp_path / "policy"
    link.symlink_to("one")
    source = PolicySource(link)
    assert source.load()
    done = threading.Event()

    def swap() -> None:
        for turn in range(300):
            following = tmp_path / "next"
            following.symlink_to(("two", "one")[turn % 2])
            following.rename(link)
        done.set()

    writer = threading.Thread(target=swap)
    writer.start()
    seen: set[str] = set()
    known = {compile_bundle(one).digest, compile_bundle(two).digest}
    while not done.is_set() or len(seen) < 2:
        source.refresh()
        current = source.current()
        assert current is not None
        seen.add(current.digest)
        if done.is_set() and len(seen) < 2:
            following = tmp_path / "next"
            following.symlink_to("one" if current.digest == compile_bundle(two).digest else "two")
            following.rename(link)
    writer.join()
    assert seen <= known


def test_files_that_change_while_they_are_read_are_not_taken(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = place / "writes.cedar", Path.open

    def changing(self: Path, mode: Literal["rb"]) -> object:
        if self == path:
            with opened(path, "ab") as file:
                file.write(b"\n//")
        return opened(self, mode)

    monkeypatch.setattr(Path, "open", changing)
    with pytest.raises(OSError, match="being written"):
        read_directory(place)


def test_one_reading_is_of_one_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = dict(EXAMPLE), {name: content + b"\n" for name, content in EXAMPLE.items()}
    write(tmp_path / "one", one)
    write(tmp_path / "two", two)
    link, opened = tmp_path / "policy", Path.open
    link.symlink_to("one")

    def moving(self: Path, mode: Literal["rb"]) -> object:
        # In every reading the link is moved midway, in the same way: two mixed readings would agree.
        to = {"reads.cedar": "two", "broker.cedar": "one"}.get(self.name)
        if to is not None:
            (tmp_path / "next").symlink_to(to)
            (tmp_path / "next").rename(link)
        return opened(self, mode)

    monkeypatch.setattr(Path, "open", moving)
    assert read_directory(link) in (one, two)


def test_what_editors_leave_is_left_out(source: PolicySource, place: Path) -> None:
    for name in (".writes.cedar.swp", "writes.cedar~", "README.md"):
        (place / name).write_text("words")
    assert not source.refresh()
    assert source.problem == ""
