"""`make bench` and `make bench-check`: builds release binaries, starts what they need, and has `bench` measure them.

Usage: run.py [--built] [--check] [--write-baseline] [PART…]
`--built`: as they are; nothing is built. The parts and the rest are explained in src/main.rs.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "local"))

import services
import settings as configuration
from processes import Failure, Processes, Stopped, answers
from settings import ROOT, Settings

BUILT = ROOT / "target" / "release"
RESULTS = ROOT / "target" / "bench"
# Each account is due once in a cycle.
POLL_INTERVAL = "60"
# The functions by themselves, as they are built for AWS: the needs of other packages would change their dependencies.
BUILDS = (["-p", "functions", "--bins"], ["-p", "tuberry-bench", "-p", "tuberry-local", "--bins"])


class Template(yaml.SafeLoader):
    """Reads the template; `!Ref Name` and its like become pairs."""


Template.add_multi_constructor("!", lambda loader, tag, node: (
    tag, loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else loader.construct_sequence(node)))


def functions(settings: Settings, sizes: bool) -> list[dict]:
    """The template's functions, and the bare hello before them; their sizes take a while, so they are not always wanted."""
    template = yaml.load((ROOT / "template.yaml").read_text(), Template)
    resources, usual = template["Resources"], template["Globals"]["Function"]

    def value(name: str, given):
        match given:
            case ("Ref", queue) if resources.get(queue, {}).get("Type") == "AWS::SQS::Queue":
                return f"queue:{queue}"
            case ("Ref", parameter) if not settings.given(name):
                return str(template["Parameters"].get(parameter, {}).get("Default", ""))
        return settings.values.get(name, given if isinstance(given, str) else "")

    def number(given) -> int:
        return int(template["Parameters"][given[1]]["Default"] if isinstance(given, tuple) else given)

    found = [{"name": "hello", "memory_mb": 256, "timeout_s": 15, "starts": {"http": {"method": "GET", "path": "/hello"}}, "environment": {}}]
    for resource in resources.values():
        if resource["Type"] == "AWS::Serverless::Function":
            own = resource["Properties"]
            variables = own.get("Environment", {}).get("Variables", {})
            found.append({
                "name": Path(own["CodeUri"]).name,
                "memory_mb": number(own.get("MemorySize", usual["MemorySize"])),
                "timeout_s": number(own.get("Timeout", usual["Timeout"])),
                "starts": starts(own.get("Events", {})),
                "environment": {name: value(name, given) for name, given in variables.items()},
            })
    return [{**function, "zipped_bytes": zipped(function["name"]) if sizes else 0} for function in found]


def starts(events: dict) -> dict:
    for event in events.values():
        own = event["Properties"]
        if event["Type"] == "HttpApi":
            return {"http": {"method": own["Method"].upper(), "path": own["Path"]}}
        if event["Type"] == "SQS":
            return {"queue": {"queue": own["Queue"][1].removesuffix(".Arn"), "batch": own["BatchSize"]}}
    return {"event": {}}


def zipped(name: str) -> int:
    """The size of a binary as `sam` packs it."""
    path = RESULTS / "size.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(BUILT / name, "bootstrap")
    return path.stat().st_size


def machine() -> str:
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores {model or platform.machine()}, {memory:.0f} GB, {platform.system()} {platform.release().split('-')[0]}"


class Stand:
    """The servers that the functions need around them, for one run."""

    def __init__(self):
        self.settings = configuration.load("test")
        self.settings["POLL_INTERVAL_SECONDS"] = POLL_INTERVAL
        self.processes = Processes(self.settings.state / "processes", RESULTS / "logs")

    def build(self) -> None:
        for packages in BUILDS:
            self.processes.run("cargo build", ["cargo", "build", "--release", *packages], cwd=ROOT, show=True)

    def measure(self, arguments: list[str]) -> int:
        settings, processes = self.settings, self.processes
        services.start_postgres(settings, processes)
        services.start_redis(settings, processes)
        control, simulators = self._simulators()
        for log in processes.logs.glob("*.log"):
            if log.stem not in ("postgres", "redis", "simulators"):
                log.unlink()
        parts = [argument for argument in arguments if not argument.startswith("-")]
        plan = {
            "functions": functions(settings, not parts or "startup" in parts), "binaries": str(BUILT), "logs": str(processes.logs), "results": str(RESULTS / "results.json"),
            "baseline": str(HERE / "baseline.json"), "database": settings["DATABASE_URL"], "redis": settings["REDIS_URL"], "control": control,
            "master_bot_token": settings["MASTER_BOT_TOKEN"], "postgres_pid": postmaster(settings), "simulators_pid": simulators.pid,
            "machine": machine(),
        }
        path = settings.state / "plan.json"
        configuration.write_private(path, {})
        path.write_text(json.dumps(plan))
        return processes.follow("bench", [BUILT / "bench", *arguments], env={**os.environ, "BENCH_PLAN": str(path)}, cwd=ROOT)

    def _simulators(self) -> tuple[str, subprocess.Popen]:
        settings, ports = self.settings, {name: self.settings.port_for(name) for name in ("telegram", "avito", "simulators")}
        environment = {"PATH": os.environ.get("PATH", os.defpath), "SIMULATORS_CONTROL_PORT": str(ports["simulators"]),
                       "TELEGRAM_PORT": str(ports["telegram"]), "AVITO_PORT": str(ports["avito"])}
        process = self.processes.start("simulators", [BUILT / "simulators"], env=environment)
        for port in ports.values():
            self.processes.wait_until(lambda port=port: answers("127.0.0.1", port), "simulators", process)
        for name in ("telegram", "avito"):
            settings[f"{name.upper()}_API_BASE"] = f"http://127.0.0.1:{ports[name]}"
            settings["MEDIA_HOSTS"] += f",127.0.0.1:{ports[name]}"
        return f"http://127.0.0.1:{ports['simulators']}", process

    def stop(self) -> None:
        self.processes.stop_all()
        shutil.rmtree(configuration.postgres_home(self.settings), ignore_errors=True)
        shutil.rmtree(self.settings.state, ignore_errors=True)


def postmaster(settings: Settings) -> int:
    """The process whose children serve connections; 0 when the server is not ours."""
    path = configuration.postgres_home(settings) / "data" / "postmaster.pid"
    return int(path.read_text().splitlines()[0]) if path.exists() else 0


def main(arguments: list[str]) -> int:
    if not sys.platform.startswith("linux"):
        raise Failure("The bench reads /proc: it runs on Linux.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    stand = Stand()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: threading.Thread(target=stand.processes.stop_all, daemon=True).start())
    try:
        if "--built" not in arguments:
            stand.build()
        return stand.measure([argument for argument in arguments if argument != "--built"])
    except Stopped:
        return 130
    finally:
        stand.stop()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failure as failure:
        print(f"{failure}\n{failure.output}".rstrip(), file=sys.stderr)
        sys.exit(1)
