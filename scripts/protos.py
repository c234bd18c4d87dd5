"""Generate the Python of protos/ into latent_inv/v1, or (--check) compare it with what is there."""

from __future__ import annotations

import argparse
import filecmp
import importlib.resources
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "latent_inv" / "v1"
HEADER = '"""Made from protos/ by scripts/protos; never edited."""\n'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether latent_inv/v1 is current")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = generate(Path(folder))
        if arguments.check:
            return compare(made)
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(made, TARGET)
    print(f"wrote {len(list(TARGET.iterdir()))} files to {TARGET.relative_to(ROOT)}")
    return 0


def generate(folder: Path) -> Path:
    """Run protoc; gives the folder of the package."""
    protos = sorted((ROOT / "protos").rglob("*.proto"))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={ROOT / 'protos'}",
        f"--proto_path={well_known}",
    ]
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "grpc_python", "pyi")]
    subprocess.run([*command, *outputs, *map(str, protos)], check=True)
    made = folder / "latent_inv" / "v1"
    (made / "__init__.py").write_text(HEADER)
    # A file without services gets an empty gRPC module.
    for path in made.glob("*_pb2_grpc.py"):
        if "class " not in path.read_text():
            path.unlink()
    return made


def compare(made: Path) -> int:
    """0 if latent_inv/v1 is what was made, else 1 and a line on what differs."""
    names = sorted({path.name for folder in (made, TARGET) for path in folder.glob("*.py*") if path.suffix != ".pyc"})
    _, differing, missing = filecmp.cmpfiles(made, TARGET, names, shallow=False)
    if differing or missing:
        print(f"latent_inv/v1 is not current ({', '.join(differing + missing)}): run scripts/protos", file=sys.stderr)
        return 1
    print("latent_inv/v1 is current")
    return 0


if __name__ == "__main__":
    sys.exit(main())
