"""`make build`: the functions as AWS runs them, one folder each under target/lambda."""

import re
import subprocess
import sys

import deploy
from processes import Failure
from settings import ROOT

TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}
# The C library of the provided.al2023 runtime; a binary that was linked to a newer one does not start there.
NEWEST_GLIBC = (2, 34)


def main(architecture: str) -> int:
    triple = TRIPLES.get(architecture)
    if not triple:
        raise Failure(f"ARCHITECTURE must be {' or '.join(TRIPLES)}, not {architecture!r}.")
    code = subprocess.run(["cargo", "build", "--release", "--target", triple, "-p", "functions", "--bins"], cwd=ROOT).returncode
    if code:
        raise Failure(f"The build for {triple} failed; another architecture than this machine's needs its linker and `rustup target add {triple}`.")
    built = ROOT / "target" / triple / "release"
    for name in deploy.functions():
        wanted = {tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_(\d+\.\d+)", (built / name).read_bytes())}
        if max(wanted, default=NEWEST_GLIBC) > NEWEST_GLIBC:
            raise Failure(f"{name} needs a newer C library than Lambda has: build on Debian 11, Amazon Linux 2023 or the like.")
    deploy.lay_out(built)
    print(f"{len(deploy.functions())} functions for {architecture} are in target/lambda")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "x86_64"))
    except Failure as failure:
        sys.exit(str(failure))
