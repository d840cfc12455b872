"""Left-overs of a stack that was killed: all of them end, and nothing else does. Run by `make check`."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from processes import _boot, _started, end_left_overs

HERE = Path(__file__).resolve().parent
# A stack with one server, which has a process of its own. It prints their numbers and waits.
STACK = """
import sys, time
from pathlib import Path
from processes import Processes
home = Path(sys.argv[1])
processes = Processes(home / "processes", home / "logs")
server = processes.start("server", ["sh", "-c", "sleep 600 & echo $!; wait"])
while not (member := (home / "logs" / "server.log").read_text()):
    time.sleep(0.01)
print(server.pid, member, flush=True)
time.sleep(600)
"""


class LeftOvers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        self.record = self.home / "processes"

    def start(self, command: list, **options) -> subprocess.Popen:
        """Starts a process, which is ended after the test."""
        process = subprocess.Popen(command, **options)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def assert_ended(self, pid: int, started: str) -> None:
        deadline = time.monotonic() + 10
        while _started(pid) == started:
            self.assertLess(time.monotonic(), deadline, f"process {pid} is still there")
            time.sleep(0.05)

    def test_everything_that_a_killed_stack_left_running_is_ended(self):
        stack = self.start([sys.executable, "-c", STACK, self.home], cwd=HERE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(stack.stdout.close)
        left = {pid: _started(pid) for pid in map(int, stack.stdout.readline().split())}
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid, started in left.items() if _started(pid) == started])
        self.assertEqual([bool(started) for started in left.values()], [True, True])

        self.assertFalse(end_left_overs(self.record), "the stack is alive")
        self.assertEqual({pid: _started(pid) for pid in left}, left)

        os.kill(stack.pid, signal.SIGKILL)
        stack.wait()
        self.assertTrue(end_left_overs(self.record))
        for pid, started in left.items():
            self.assert_ended(pid, started)
        self.assertFalse(self.record.exists())

    def test_a_stranger_with_the_same_number_is_left_alone(self):
        stranger = self.start(["sleep", "600"], start_new_session=True)
        ended = subprocess.Popen(["true"])
        ended.wait()
        # The stack's server had the number before: it began earlier, or before the machine's last start.
        for boot, began in ((_boot(), "1"), ("another", _started(stranger.pid))):
            self.record.write_text(f"{boot}\n{ended.pid} 1\n{stranger.pid} {began}\n")
            self.assertTrue(end_left_overs(self.record))
            time.sleep(0.2)
            self.assertIsNone(stranger.poll())


if __name__ == "__main__":
    unittest.main()
