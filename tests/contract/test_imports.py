"""Imports go down the floors only; the contracts stand in pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.prefix) / "bin" / "lint-imports", "--no-cache"],
        cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_imports_go_down_only() -> None:
    checked = lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout


def test_an_import_that_goes_up_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "broker", tmp_path / "broker", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "broker" / "policy" / "decide.py").open("a") as noun:
        noun.write("\nimport broker.operations.exchange\n")
    checked = lint_imports(tmp_path)
    assert checked.returncode != 0
    assert "broker.policy.decide -> broker.operations.exchange" in checked.stdout
