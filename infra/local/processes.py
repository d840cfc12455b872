"""Child processes of the stack: each in a process group of its own. None is left behind, no other is touched."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path


class Failure(Exception):
    """Something a person has to know: one clear sentence, and the output that explains it, if any."""

    def __init__(self, sentence: str, output: str = ""):
        super().__init__(sentence)
        self.output = output


class Stopped(Exception):
    """The stack is being stopped, so nothing new is started."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return False
    return True


def tail(path: Path, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


@dataclass
class Child:
    """A process that the stack started, and the way to end it."""

    name: str
    process: subprocess.Popen
    stop: signal.Signals
    grace: float
    server: bool
    options: dict


class Processes:
    """Starts, watches and stops. A record on disk lets the next start end what a killed one left over."""

    def __init__(self, record: Path, logs: Path):
        self._record, self.logs = record, logs
        self._running: list[Child] = []
        self._lock = threading.RLock()
        self._stop_lock = threading.Lock()
        self.stopping = False
        logs.mkdir(parents=True, exist_ok=True)
        end_left_overs(record)

    def start(self, name: str, command: list, *, env: dict | None = None, stop=signal.SIGTERM, grace=20.0) -> subprocess.Popen:
        """Starts a server; its output goes to a log file named after it."""
        with (self.logs / f"{name}.log").open("wb") as log:
            return self._spawn(name, command, stop, grace, True, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def restart(self, name: str) -> None:
        """Ends a server and starts it again as it was; what depends on it stays."""
        with self._lock:
            index = next((index for index, child in enumerate(self._running) if child.name == name), None)
            if index is None:
                raise Failure(f"{name} is not ours to restart: it was given by its address.")
            child = self._running[index]
            child.process.send_signal(child.stop)
            child.process.wait(timeout=child.grace)
            with (self.logs / f"{name}.log").open("ab") as log:
                self._spawn(name, child.process.args, child.stop, child.grace, True, **{**child.options, "stdout": log})
            # It is stopped when its predecessor would have been.
            self._running[index] = self._running.pop()
            self._write()

    def run(self, name: str, command: list, *, env: dict | None = None, cwd: Path | None = None, show=False) -> str:
        """Runs a tool to its end and returns its output; `show` lets a person watch it instead."""
        sink = None if show else subprocess.PIPE
        process = self._spawn(name, command, signal.SIGTERM, 5.0, False, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=sink,
                              stderr=None if show else subprocess.STDOUT, text=True, errors="replace")
        output, _ = process.communicate()
        with self._lock:
            self._forget(process)
        if self.stopping:
            raise Stopped
        if process.returncode != 0:
            raise Failure(f"{name} failed (exit code {process.returncode}).", (output or "")[-4000:])
        return output or ""

    def follow(self, name: str, command: list, *, env: dict, cwd: Path) -> int:
        """Runs a command that a person watches and returns its exit code."""
        process = self._spawn(name, command, signal.SIGTERM, 20.0, False, env=env, cwd=cwd)
        code = process.wait()
        _kill_group(process.pid)
        with self._lock:
            self._forget(process)
        return code

    def wait_until(self, ready, name: str, process: subprocess.Popen, seconds: float = 60.0) -> None:
        """Waits for a server of the stack to answer. Failure, with its log: it ended, or did not answer in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.stopping:
                raise Stopped
            if process.poll() is not None:
                raise Failure(f"{name} ended at once (exit code {process.returncode}).", tail(self.logs / f"{name}.log"))
            if time.monotonic() > deadline:
                raise Failure(f"{name} did not answer within {seconds:.0f} seconds.", tail(self.logs / f"{name}.log"))
            time.sleep(0.05)

    def dead(self) -> str | None:
        """The name of a server that ended by itself."""
        with self._lock:
            return next((child.name for child in self._running if child.server and child.process.poll() is not None), None)

    def stop_all(self) -> None:
        """Ends everything in the opposite order: gently first, then the rest of each process group."""
        with self._lock:
            self.stopping = True
        with self._stop_lock:
            for child in list(reversed(self._running)):
                self._stop(child)

    def _stop(self, child: Child) -> None:
        try:
            child.process.send_signal(child.stop)
            child.process.wait(timeout=child.grace)
        except subprocess.TimeoutExpired:
            print(f"  {child.name} did not stop within {child.grace:.0f} seconds and was killed", file=sys.stderr)
        _kill_group(child.process.pid)
        child.process.wait()
        with self._lock:
            self._forget(child.process)

    def _spawn(self, name, command, stop, grace, server, **options) -> subprocess.Popen:
        with self._lock:
            if self.stopping:
                raise Stopped
            try:
                process = subprocess.Popen([str(part) for part in command], start_new_session=True, **options)
            except OSError as error:
                raise Failure(f"{name} could not be started: {error.strerror} ({command[0]}).") from error
            self._running.append(Child(name, process, stop, grace, server, options))
            self._write()
            return process

    def _forget(self, process) -> None:
        self._running = [child for child in self._running if child.process is not process]
        self._write()

    def _write(self) -> None:
        lines = [f"{child.process.pid} {_started(child.process.pid)}\n" for child in self._running]
        self._record.write_text("".join([f"{_boot()}\n", f"{os.getpid()} {_started(os.getpid())}\n", *lines]))


def end_left_overs(record: Path) -> bool:
    """Ends what a killed stack left running. False: that stack is alive, and nothing was ended."""
    lines = record.read_text().splitlines() if record.exists() else []
    if len(lines) > 1 and lines[0] == _boot():
        owner, *children = [(int(pid), started) for pid, _, started in (line.partition(" ") for line in lines[1:])]
        if owner[0] != os.getpid() and _started(owner[0]) == owner[1]:
            return False
        for pid, started in children:
            _end(pid, started)
    record.unlink(missing_ok=True)
    return True


def _end(pid: int, started: str) -> None:
    # The start time distinguishes our process from a later one with the same number. A group without its leader is
    # ours, because its number is not used again while a member lives.
    if _started(pid) == started != "":
        os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + 15
        while _started(pid) == started and time.monotonic() < deadline:
            time.sleep(0.1)
        _kill_group(pid)
    elif not _started(pid):
        _kill_group(pid)


def _boot() -> str:
    """The id of the machine's current boot: process numbers mean nothing in the next one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return subprocess.run(["sysctl", "-n", "kern.boottime"], check=False, capture_output=True, text=True).stdout.strip()


def _started(pid: int) -> str:
    """The start time of a process, as the system counts it. Empty: there is no such process."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    if not shutil.which("ps"):
        return ""
    return subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], check=False, capture_output=True, text=True).stdout.strip()


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
