"""`make test`: every test of the workspace inside one running stack, with the sum of all of them at the end.

The arguments are those of `cargo nextest run`; with any of them the second pass, behind a pooler, is left out.
"""

import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from settings import ROOT

HERE = Path(__file__).resolve().parent
NEXTEST = Path(sys.executable).with_name("cargo-nextest")
REPORT = ROOT / "target" / "nextest" / "default" / "junit.xml"


def main(extra: list[str]) -> int:
    scope = [] if {"-p", "--package"} & set(extra) else ["--workspace"]
    passes = [([], [*scope, *extra])]
    if not extra:
        # Everything must also work when any two transactions may use different connections.
        passes.append((["--pooler"], ["--workspace", "--test", "e2e"]))
    outcomes = [run(options, arguments) for options, arguments in passes]
    passed, failed = (sum(counts) for counts in zip(*(outcome[1:] for outcome in outcomes), strict=True))
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or any(code for code, *_ in outcomes) else 0


def run(options: list[str], arguments: list[str]) -> tuple[int, int, int]:
    """Runs tests inside a stack. Returns the exit code, and the numbers of passed and failed tests."""
    REPORT.unlink(missing_ok=True)
    # The keyboard belongs to the stack: nextest would change the terminal's settings to read single keys.
    command = [NEXTEST, "nextest", "run", "--cargo-profile", "local", "--no-input-handler", *arguments]
    suite = subprocess.Popen([sys.executable, HERE / "stack.py", "test", *options, "--", *command])
    # Ctrl-C reaches the stack as well, which stops in order; this only waits for that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: suite.terminate())
    code = suite.wait()
    passed, failed = counts()
    if code and not failed:
        print(f"The tests did not run to their end (exit code {code}).")
    if not code and not passed:
        print("No test ran.")
        code = 1
    return code, passed, failed


def counts() -> tuple[int, int]:
    """The numbers of passed and failed tests in nextest's report; a test that ran out of time has failed."""
    tests = list(ElementTree.parse(REPORT).iter("testcase")) if REPORT.exists() else []
    failed = sum(test.find("failure") is not None or test.find("error") is not None for test in tests)
    return len(tests) - failed, failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
