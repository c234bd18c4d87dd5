"""`scripts/bench NAME [--json FILE] [--seed N] [--only PART,…] [--count N] [--out FOLDER] [--quick]`."""

from __future__ import annotations

import argparse
import secrets
import sys
from importlib import import_module
from pathlib import Path

from .figures import Options, machine, report

#: name → what it measures
BENCHES: dict[str, str] = {
    "spine": "quality of 200 Adam steps, law 1 on the real generator, overhead of engine, gRPC and command line",
    "load": "a server with far too much to do: overload, many watchers, streams that are left, lanes that fill",
    "faults": "processes that are killed, a disk that fills up, requests that are nearly right: none lost, none wrong",
    "generators": "photographs through the autoencoder, classes of eyes, layers of faces, StyleGAN2, half precision",
    "quality": "this library beside the projector of StyleGAN2 and pix2latent: speed-up, exactness, faces out of range",
}


def main() -> int:
    listed = "\n".join(f"  {name:10} {text}" for name, text in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=f"Run one benchmark.\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHES, help="which one")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--seed", type=int, help="of targets and starts; default: a fresh one, which is printed")
    parser.add_argument("--quick", action="store_true", help="a small version that only shows that it works")
    parser.add_argument("--only", default="", metavar="PART[,PART]", help="only these parts; a wrong name lists them")
    parser.add_argument("--count", type=int, help="targets of each part that has a number of them")
    parser.add_argument("--out", type=Path, help="folder for tables and plots; default: out/bench/NAME")
    arguments = parser.parse_args()
    if arguments.count is not None and arguments.count < 1:
        parser.error("--count must be at least 1")
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    print(f"{arguments.name}: seed {seed}{' (quick)' if arguments.quick else ''}", flush=True)
    where = machine()
    options = Options(
        seed=seed,
        quick=arguments.quick,
        count=arguments.count,
        only=tuple(filter(None, arguments.only.split(","))),
        out=arguments.out or Path("out/bench") / arguments.name,
    )
    figures = import_module(f"scripts.benchmarks.{arguments.name}").run(options)
    report(arguments.name, where, figures, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
