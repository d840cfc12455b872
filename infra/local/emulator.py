"""The AWS emulator (MiniStack): it listens on this machine only, and gets only the environment that is set here."""

import json
import os
import shutil
import signal
import sys
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

from processes import Processes
from settings import REGION, Settings

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
# It sends the head and the body of an event as two small packets, and the second waits 40 ms for an answer to the first.
LAUNCH = "import socketserver; socketserver.StreamRequestHandler.disable_nagle_algorithm = True; from ministack.app import main; main()"


class Emulator:
    """A running MiniStack and its AWS clients."""

    def __init__(self, endpoint: str):
        self.endpoint = endpoint
        options = Config(region_name=REGION, retries={"max_attempts": 2}, read_timeout=400, proxies={})
        session = boto3.session.Session(
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"], aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
        self._make = lambda service: session.client(service, endpoint_url=endpoint, config=options)
        self._clients: dict = {}

    def client(self, service: str):
        if service not in self._clients:
            self._clients[service] = self._make(service)
        return self._clients[service]

    def environment(self) -> dict[str, str]:
        """The variables with which a program uses it as AWS."""
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, **CREDENTIALS}

    def invoke(self, function: str, event: dict) -> tuple[bool, object]:
        """Runs a function to its end. Returns True if it succeeded, and its answer."""
        answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
        payload = answer["Payload"].read()
        try:
            return "FunctionError" not in answer, json.loads(payload or b"null")
        except ValueError:
            return "FunctionError" not in answer, payload.decode(errors="replace")


def start(settings: Settings, processes: Processes, port: int, queues: str | None) -> Emulator:
    """Starts it on a port; functions reach the queues by the address `queues`, if there is one of their own."""
    home = settings.state / "aws"
    endpoint = f"http://127.0.0.1:{port}"
    # It unpacks each version of each function and removes none.
    shutil.rmtree(home / "tmp", ignore_errors=True)
    (home / "tmp").mkdir(parents=True)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        # Without these two it listens on every interface, and it runs code for every caller.
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "TMPDIR": str(home / "tmp"),
        "STATE_DIR": str(home / "state"),
        "S3_DATA_DIR": str(home / "s3"),
        "PERSIST_STATE": "1" if settings.mode == "dev" else "0",
        "LOG_LEVEL": "INFO",
        **CREDENTIALS,
        **({"AWS_ENDPOINT_URL_SQS": queues} if queues else {}),
    }
    process = processes.start("aws", [sys.executable, "-c", LAUNCH], env=environment, stop=signal.SIGTERM, grace=60)
    processes.wait_until(lambda: _healthy(endpoint), "aws", process)
    return Emulator(endpoint)


class Errors:
    """The errors that functions log, as they come: the emulator mixes them into its own output."""

    def __init__(self, log: Path):
        self._log = log.open(errors="replace")
        self._log.seek(0, os.SEEK_END)
        self._unfinished_line = ""

    def new(self) -> list[str]:
        *lines, self._unfinished_line = (self._unfinished_line + self._log.read()).split("\n")
        return [line for line in lines if line.startswith("{") and '"level":"ERROR"' in line]


def _healthy(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
