"""Where SPIRE's programs are looked for, and what is said when they cannot be had."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.spire import build, toolchain
from deploy.spire.errors import DeployError


def spire(
    directory: Path, version: str = "1.15.3", programs: tuple[str, ...] = ("spire-server", "spire-agent")
) -> Path:
    """Make programs that do nothing but tell their version."""
    directory.mkdir(parents=True)
    for name in programs:
        (directory / name).write_text(f"#!/bin/sh\necho {version}\n")
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIRE_BIN_DIR", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(toolchain, "_USUAL_PLACE", tmp_path / "no-go")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.15.3\n", (1, 15, 3)),
        ("1.15.3-dev-unk", (1, 15, 3)),
        ("v1.15.0", (1, 15, 0)),
        ("2.0.0", (2, 0, 0)),
        ("", None),
        ("not a version 1.15.3", None),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, ...] | None) -> None:
    assert build.parse_version(text) == version


def test_spire_bin_dir_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(spire(tmp_path / "path")))
    monkeypatch.setenv("SPIRE_BIN_DIR", str(spire(tmp_path / "own")))
    assert build.find_binaries().server == tmp_path / "own" / "spire-server"


def test_spire_bin_dir_without_spire_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(spire(tmp_path / "path")))
    monkeypatch.setenv("SPIRE_BIN_DIR", str(spire(tmp_path / "own", programs=("spire-server",))))
    with pytest.raises(DeployError, match="no program spire-agent is there"):
        build.find_binaries()


def test_spire_bin_dir_of_another_version_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIRE_BIN_DIR", str(spire(tmp_path / "own", version="1.12.0")))
    with pytest.raises(DeployError, match=r"'1\.12\.0'; SPIRE 1\.15 is needed"):
        build.find_binaries()


def test_the_path_comes_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spire(build.cache_directory() / build.cache_key())
    monkeypatch.setenv("PATH", str(spire(tmp_path / "path", version="1.15.9")))
    assert build.find_binaries().source == "the PATH"


def test_another_version_on_the_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spire(build.cache_directory() / build.cache_key())
    monkeypatch.setenv("PATH", str(spire(tmp_path / "path", version="1.12.0")))
    assert build.find_binaries().source == "the cache"
    assert "1.12.0" in capsys.readouterr().err


def test_without_go_the_message_says_what_to_install() -> None:
    with pytest.raises(DeployError, match=r"Install Go 1\.26\.6 or newer .* or set SPIRE_BIN_DIR"):
        build.find_binaries()


def test_an_old_go_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go" / "go"
    go.parent.mkdir()
    go.write_text("#!/bin/sh\necho go1.24.1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(go.parent))
    with pytest.raises(DeployError, match=r"needs Go 1\.26\.6 or newer and .* is 1\.24\.1"):
        build.find_binaries()


def test_a_missing_c_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go" / "go"
    go.parent.mkdir()
    go.write_text('#!/bin/sh\n[ "$2" = GOVERSION ] && echo go1.26.8 || echo gcc\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(go.parent))
    with pytest.raises(DeployError, match=r"C compiler .* gcc is missing"):
        build.find_binaries()


def test_a_full_disk_is_named_before_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 30))
    with pytest.raises(DeployError, match=r"about 6 GB and .* has 1\.0 GB free"):
        toolchain.check_room([tmp_path / "not" / "yet"], cold=True)


def test_the_key_is_the_same_for_the_same_pins() -> None:
    assert build.cache_key() == build.cache_key()
    assert build.cache_key().startswith("1.15.3-")
