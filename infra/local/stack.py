"""`make dev`, `make test` and `make clean-local`: the whole bundle on this machine, from the template that goes to production.

Usage: stack.py dev | test [--pooler] -- COMMAND… | clean
"""

import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

import deploy
import emulator
import seed
import services
import settings as configuration
from front import Front
from processes import Failure, Processes, Stopped, answers, end_left_overs, is_free
from settings import LOCAL, ROOT, Settings
from summary import summary


class Stack:
    """Everything that runs, in the order in which it came up."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.processes = Processes(settings.state / "processes", settings.logs)
        self.front = Front(settings)
        self.emulator: emulator.Emulator | None = None
        self.outputs: dict[str, str] = {}
        self.demo: dict | None = None
        self._began = time.monotonic()

    def start(self) -> None:
        settings, processes = self.settings, self.processes
        self.front.start()
        self._step("building the functions and the simulators", lambda: deploy.build(processes, settings.mode == "test"))
        self._step("starting Postgres", lambda: services.start_postgres(settings, processes))
        self._step("starting Redis", lambda: services.start_redis(settings, processes))
        self._step("starting the simulators of Telegram and Avito", self._start_simulators)
        self._step("starting the AWS emulator", self._start_emulator)
        self._step("deploying template.yaml", self._deploy)
        self._step("migrating the database", lambda: deploy.migrate(settings, self.emulator))
        if settings["LOCAL_SEED"] == "demo":
            self._step("setting up the demonstration", self._seed)
        self.front.step, self.front.ready = "ready", True

    def stop(self) -> None:
        self.front.ready, self.front.step = False, "stopping"
        self.processes.stop_all()
        self.front.stop()

    def _step(self, title: str, work) -> None:
        if self.processes.stopping:
            raise Stopped
        self.front.step = title
        print(f"[{time.monotonic() - self._began:6.1f} s] {title}", flush=True)
        try:
            work()
        except (BotoCoreError, ClientError, OSError) as error:
            if self.processes.stopping:
                raise Stopped from None
            raise Failure(f"It failed while {title}.", str(error)) from error

    def _start_simulators(self) -> None:
        settings, control = self.settings, self.settings.port_for("simulators")
        environment = {"PATH": os.environ.get("PATH", os.defpath), "SIMULATORS_CONTROL_PORT": str(control)}
        if settings.mode == "dev":
            environment["SIMULATORS_STATE"] = str(settings.state / "simulators.json")
        # The port of last time, so that the addresses in the emulator's stored state stay right.
        self._aws_port, self._queues, ports = settings.port_for("aws"), None, {}
        if settings.mode == "test":
            queues_port = settings.port_for("queues")
            environment |= {"QUEUES_PORT": str(queues_port), "QUEUES_SERVER": f"http://127.0.0.1:{self._aws_port}"}
            self._queues = f"http://127.0.0.1:{queues_port}"
        for name, variable in (("TELEGRAM", "TELEGRAM_API_BASE"), ("AVITO", "AVITO_API_BASE")):
            if not settings.given(variable):
                ports[name] = settings.port_for(name.lower())
                environment[f"{name}_PORT"] = str(ports[name])
        program = ROOT / "target" / "local" / "simulators"
        process = self.processes.start("simulators", [program], env=environment)
        for port in (control, *ports.values()):
            self.processes.wait_until(lambda port=port: answers("127.0.0.1", port), "simulators", process)
        for name, port in ports.items():
            settings[f"{name}_API_BASE"] = f"http://127.0.0.1:{port}"
        self.front.control = f"http://127.0.0.1:{control}"
        self._simulated = set(ports)

    def _start_emulator(self) -> None:
        if self.settings.mode == "test":
            self.front.restart = self.processes.restart
        self.emulator = emulator.start(self.settings, self.processes, self._aws_port, self._queues)

    def _deploy(self) -> None:
        self.outputs = deploy.deploy(self.settings, self.processes, self.emulator)
        deploy.connect_routes(self.settings, self.emulator, self.outputs["ApiId"])
        deploy.widen_fifo(self.settings, self.emulator)
        self.front.api = f"{self.emulator.endpoint}/_aws/execute-api/{self.outputs['ApiId']}/$default"

    def _seed(self) -> None:
        if self._simulated >= {"TELEGRAM", "AVITO"}:
            self.demo = seed.seed(self.settings)
        else:
            print("           left out: it needs the simulators of both Telegram and Avito")

    def addresses(self) -> dict[str, str]:
        """The variables by which a test finds the parts of the stack."""
        names = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL", "TELEGRAM_API_BASE", "AVITO_API_BASE", "PUBLIC_BASE_URL",
                 "MASTER_BOT_TOKEN", "MASTER_BOT_NAME", "JWT_SECRET_KEY", "SECRETS_KEY", "SERVICE_TOKEN", "POLL_INTERVAL_SECONDS",
                 "WEBHOOK_POLL_INTERVAL_SECONDS", "AUTO_REPLY_DELAY_SECONDS", "WORKER_VISIBILITY_SECONDS")
        outputs = {"TELEGRAM": "Telegram", "AVITO": "Avito", "POLL": "Poll", "INTAKE": "Intake", "AUTO_REPLY": "AutoReply"}
        queues = {f"{name}_QUEUE_URL": self.outputs[f"{output}QueueUrl"] for name, output in outputs.items()}
        return {"STACK_NAME": self.settings.stack_name, "STACK_API": self.settings.api, "STACK_CONTROL": self.front.control or "",
                "INTAKE_DEAD_LETTERS_URL": self.outputs["IntakeDeadLettersUrl"],
                **self.emulator.environment(), **queues, **{name: self.settings[name] for name in names}}


def dev() -> int:
    settings = configuration.load("dev")
    lock = _only_one()
    if not is_free(settings.port):
        raise Failure(f"Port {settings.port} is taken by another program: stop that one, or choose a port with PORT=….")
    services.check_given(settings)
    stack = Stack(settings)
    asked = _on_signals(stack)
    try:
        stack.start()
        print(summary(settings, stack.emulator, stack.demo), flush=True)
        errors = emulator.Errors(settings.logs / "aws.log")
        while not asked.wait(1):
            for line in errors.new():
                print(line, flush=True)
            if name := stack.processes.dead():
                raise Failure(f"{name} ended by itself; its log is {settings.logs / name}.log.")
        return 0
    except Stopped:
        return 0
    finally:
        print("stopping…", flush=True)
        stack.stop()
        lock.close()


def test(command: list[str], pooler: bool) -> int:
    settings = configuration.load("test")
    settings.pooler = pooler
    services.check_given(settings)
    _forget_killed_tests(settings.state)
    stack = Stack(settings)
    _on_signals(stack)
    try:
        stack.start()
        log = settings.logs / "aws.log"
        began = log.stat().st_size
        code = stack.processes.follow("the command", command, env={**os.environ, **stack.addresses()}, cwd=ROOT)
        # Statements work without their SQL functions too, at three times the work for Postgres, so no test fails.
        if b"SQL functions are missing" in log.read_bytes()[began:]:
            raise Failure(f"A statement binds other types than its SQL function takes: «SQL functions are missing» in {log}.")
        return code
    except Stopped:
        return 130
    finally:
        stack.stop()
        shutil.rmtree(configuration.postgres_home(settings), ignore_errors=True)
        shutil.rmtree(settings.state, ignore_errors=True)


def clean() -> int:
    if LOCAL.exists():
        lock = _only_one()
        end_left_overs(LOCAL / "processes")
        pointer = LOCAL / "postgres-home"
        if pointer.exists():
            shutil.rmtree(Path(pointer.read_text().strip()), ignore_errors=True)
        shutil.rmtree(LOCAL)
        lock.close()
    _forget_killed_tests()
    print("The local stack's data is gone; servers that were given by address keep theirs.")
    return 0


def _forget_killed_tests(but: Path | None = None) -> None:
    for state in Path(tempfile.gettempdir()).glob("tuberry-test-*"):
        ours = state != but and state.is_dir() and state.stat().st_uid == os.getuid()
        if ours and (state / "processes").exists() and end_left_overs(state / "processes"):
            for home in (state, Path("/var/tmp") / state.name):
                shutil.rmtree(home, ignore_errors=True)


def _only_one():
    LOCAL.mkdir(mode=0o700, exist_ok=True)
    lock = (LOCAL / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Failure("A `make dev` of this checkout is running already: stop that one first.") from None
    return lock


def _on_signals(stack: Stack) -> threading.Event:
    asked = threading.Event()

    def on_signal(_number, _frame):
        if not asked.is_set():
            asked.set()
            # A handler must not wait, and what the main thread waits for ends by being stopped.
            threading.Thread(target=stack.processes.stop_all, daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    return asked


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["dev"]:
                return dev()
            case ["test", "--", *command] if command:
                return test(command, pooler=False)
            case ["test", "--pooler", "--", *command] if command:
                return test(command, pooler=True)
            case ["clean"]:
                return clean()
        print(__doc__, file=sys.stderr)
        return 2
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        if failure.output:
            print(failure.output, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
