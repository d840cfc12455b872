"""`make test`: every test of the workspace inside one running stack, with the sum of all of them at the end."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULT = re.compile(r"test result: \w+\. (\d+) passed; (\d+) failed")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def main(extra: list[str]) -> int:
    scope = [] if {"-p", "--package"} & set(extra) else ["--workspace"]
    passes = [([], [*scope, "--no-fail-fast", *extra])]
    if not extra:
        # Everything must also work when any two transactions may use different connections.
        passes.append((["--pooler"], ["--workspace", "--test", "e2e", "--no-fail-fast"]))
    outcomes = [run(options, arguments) for options, arguments in passes]
    passed, failed = (sum(counts) for counts in zip(*(outcome[1:] for outcome in outcomes), strict=True))
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or any(code for code, *_ in outcomes) else 0


def run(options: list[str], arguments: list[str]) -> tuple[int, int, int]:
    """Runs tests inside a stack. Returns the exit code, and the numbers of passed and failed tests."""
    command = ["cargo", "test", "--profile", "local", *arguments]
    # The tests of a stack wait more than they compute.
    environment = {"RUST_TEST_THREADS": "8", **os.environ}
    suite = subprocess.Popen([sys.executable, HERE / "stack.py", "test", *options, "--", *command], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, errors="replace", env=environment)
    # Ctrl-C reaches the stack as well, which stops in order; this only waits for that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: suite.terminate())
    passed = failed = 0
    for line in suite.stdout:
        print(line, end="", flush=True)
        if counts := RESULT.search(COLOUR.sub("", line)):
            passed, failed = passed + int(counts[1]), failed + int(counts[2])
    code = suite.wait()
    if code and not failed:
        print(f"The tests did not run to their end (exit code {code}).")
    if not code and not passed:
        print("No test ran.")
        code = 1
    return code, passed, failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
