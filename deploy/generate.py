"""Generate the Python code of proto/ into broker/, or see whether what is committed is current.

`proto/broker/**/v1/*.proto` gives `broker/**/v1/*_pb2.py`, `*_pb2_grpc.py` and the typed stubs of both. No published
package brings `buf.validate.validate_pb2`, which the generated modules import for their options, and a top-level
package `buf` of ours would overwrite another distribution's: so it is generated to `broker/v1/buf/`, and that one
import is rewritten.
"""

import argparse
import filecmp
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VALIDATE_IMPORT = re.compile(r"^from buf\.validate import", re.MULTILINE)


def main() -> int:
    """Generate, or with --check compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the committed code differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="generate-") as temporary:
        fresh = Path(temporary)
        generate(arguments.root / "proto", fresh)
        return check(fresh, arguments.root) if arguments.check else replace(fresh, arguments.root)


def generate(proto: Path, out: Path) -> None:
    """Run the compiler over our files and the vendored validation rules."""
    ours = sorted(str(path.relative_to(proto)) for path in proto.glob("broker/**/*.proto"))
    validate = "buf/validate/validate.proto"
    plugins = Path(sysconfig.get_path("scripts"))
    compiler = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={proto}", f"--python_out={out}"]
    compiler += [f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}", f"--mypy_out=quiet:{out}"]
    services = [f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"]
    services += [f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}"]
    subprocess.run([*compiler, validate], check=True)
    if ours:
        subprocess.run([*compiler, *services, *ours], check=True)
    examples(proto.parent / "examples", out, plugins)
    (out / "broker" / "v1").mkdir(parents=True, exist_ok=True)
    (out / "buf").rename(out / "broker" / "v1" / "buf")
    for path in generated(out):
        path.write_text(VALIDATE_IMPORT.sub("from broker.v1.buf.validate import", path.read_text()))
    drop_empty_services(out)
    add_packages(out)


def examples(root: Path, out: Path, plugins: Path) -> None:
    """Run the compiler over each example's own proto folder; its code lands beside it."""
    for proto in sorted(root.glob("*/proto")):
        target = out / "examples" / proto.parent.name
        target.mkdir(parents=True)
        compiler = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={proto}"]
        compiler += [f"--python_out={target}", f"--grpc_python_out={target}"]
        compiler += [f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}", f"--mypy_out=quiet:{target}"]
        compiler += [f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}"]
        compiler += [f"--mypy_grpc_out=quiet:{target}"]
        subprocess.run([*compiler, *(str(path.relative_to(proto)) for path in proto.rglob("*.proto"))], check=True)


def drop_empty_services(out: Path) -> None:
    """Remove the service modules of files without a service."""
    for path in sorted(out.glob("broker/**/*_pb2_grpc.py")):
        if "class " not in path.read_text():
            path.unlink()
            path.with_suffix(".pyi").unlink(missing_ok=True)


def add_packages(out: Path) -> None:
    """Make every folder that holds generated code a package, but leave our own folders to us."""
    folders = {path.parent for path in generated(out)} | {out / "broker" / "v1" / "buf"}
    for folder in folders:
        (folder / "__init__.py").write_text('"""Generated from proto/ by `make generate`; do not edit."""\n')


def generated(root: Path) -> list[Path]:
    """List the generated files under a checkout or a fresh output."""
    folders = [*root.glob("broker/v1"), *root.glob("broker/*/v1"), *root.glob("examples/*/*/v1")]
    folders = [folder for folder in folders if folder.parent.name != "proto"]
    found = [path for folder in folders for path in folder.rglob("*.py*") if path.suffix in {".py", ".pyi"}]
    return sorted(found)


def replace(fresh: Path, root: Path) -> int:
    """Put fresh output in place of what is there, touching only files that differ."""
    wanted = {path.relative_to(fresh) for path in generated(fresh)}
    for path in generated(root):
        if path.relative_to(root) not in wanted:
            path.unlink()
    for name in sorted(wanted):
        target = root / name
        if not target.exists() or not filecmp.cmp(fresh / name, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((fresh / name).read_bytes())
            print(f"generated {name}")
    return 0


def check(fresh: Path, root: Path) -> int:
    """Compare, and name every file that is missing, superfluous or different."""
    wanted = {path.relative_to(fresh) for path in generated(fresh)}
    there = {path.relative_to(root) for path in generated(root)}
    stale = {name for name in wanted & there if not filecmp.cmp(fresh / name, root / name, shallow=False)}
    for name in sorted((wanted ^ there) | stale):
        print(f"not current: {name}", file=sys.stderr)
    if (wanted ^ there) | stale:
        print("the committed code is not what proto/ gives; run: make generate", file=sys.stderr)
        return 1
    print(f"{len(there)} generated files are current")
    return 0


if __name__ == "__main__":
    sys.exit(main())
