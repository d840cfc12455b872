"""The settings of the stack: given from outside or made up here, and checked before anything starts."""

import hashlib
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from processes import Failure, free_port, is_free

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
REGION = "us-east-1"

# Made up at the first start and stored, so that tokens and encrypted secrets stay valid.
MADE_UP = {
    "MASTER_BOT_TOKEN": lambda: f"{7_000_000_000 + secrets.randbelow(900_000_000)}:{secrets.token_urlsafe(26)[:35]}",
    "JWT_SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "SECRETS_KEY": lambda: f"1:{secrets.token_urlsafe(48)}",
    "SERVICE_TOKEN": lambda: secrets.token_urlsafe(36),
}
DEFAULTS = {
    "PORT": "8080",
    "MASTER_BOT_NAME": "tuberry_local_bot",
    "ADMIN_TELEGRAM_ID": "",
    "DATABASE_CA": "",
    "MEDIA_HOSTS": "avito.ru,avito.st,api.telegram.org",
    "ALLOWED_ORIGINS": "http://localhost:3000,http://127.0.0.1:3000",
    "JWT_EXPIRES": "1800",
    "REFRESH_EXPIRES": "604800",
    "POLL_INTERVAL_SECONDS": "30",
    "WEBHOOK_POLL_INTERVAL_SECONDS": "300",
    "AUTO_REPLY_DELAY_SECONDS": "75",
    "WORKER_TIMEOUT_SECONDS": "10",
    "WORKER_VISIBILITY_SECONDS": "12",
    "LOCAL_SEED": "demo",
}
TEST_DEFAULTS = {"POLL_INTERVAL_SECONDS": "5", "WEBHOOK_POLL_INTERVAL_SECONDS": "10", "AUTO_REPLY_DELAY_SECONDS": "3",
                 "LOCAL_SEED": "none"}
FROM_OUTSIDE = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL", "TELEGRAM_API_BASE", "AVITO_API_BASE", "PUBLIC_BASE_URL")
SCHEMES = {
    "DATABASE_URL": ("postgres", "postgresql"),
    "MIGRATION_DATABASE_URL": ("postgres", "postgresql"),
    "REDIS_URL": ("redis", "rediss"),
}


@dataclass
class Settings:
    """One stack: its folder, and every value that its parts are started with."""

    mode: str
    state: Path
    values: dict[str, str]
    made_up: list[str] = field(default_factory=list)
    # True if functions reach Postgres through a pooler in transaction mode.
    pooler: bool = False

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def __setitem__(self, name: str, value: str) -> None:
        self.values[name] = value

    def given(self, name: str) -> bool:
        return bool(self.values.get(name))

    @property
    def port(self) -> int:
        return int(self.values["PORT"])

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stack_name(self) -> str:
        return f"tuberry-{self.mode}"

    @property
    def logs(self) -> Path:
        """Outside the state of a test, so that they can be read after it is gone."""
        return LOCAL / "logs" if self.mode == "dev" else LOCAL / "test-logs"

    def port_for(self, part: str) -> int:
        """A free port, the same at every start if possible, so that addresses in stored data stay right."""
        known = read_env(self.state / "ports")
        port = int(known.get(part, 0))
        if not port or not is_free(port):
            port = free_port()
            while str(port) in known.values():
                port = free_port()
            write_private(self.state / "ports", {**known, part: str(port)})
        return port


def load(mode: str) -> Settings:
    """The settings of `dev` or `test`; a wrong value is named here, before anything starts."""
    LOCAL.mkdir(mode=0o700, exist_ok=True)
    state = LOCAL if mode == "dev" else Path(tempfile.mkdtemp(prefix="tuberry-test-"))
    stored = read_env(LOCAL / "env") if mode == "dev" else {}
    defaults = {**DEFAULTS, **(TEST_DEFAULTS | {"PORT": str(free_port())} if mode == "test" else {})}
    outside = {name: value for name in [*defaults, *MADE_UP, *FROM_OUTSIDE] if (value := os.environ.get(name, "").strip())}
    if mode == "test":
        outside.pop("PORT", None)
        outside.pop("PUBLIC_BASE_URL", None)
    made_up = {name: make() for name, make in MADE_UP.items() if name not in outside and name not in stored}
    if mode == "dev" and (made_up or not (LOCAL / "env").exists()):
        write_private(LOCAL / "env", {**stored, **made_up})
    settings = Settings(mode, state, {**defaults, **stored, **made_up, **outside}, list(made_up))
    _check(settings)
    settings.values.setdefault("PUBLIC_BASE_URL", settings.api)
    return settings


def postgres_home(settings: Settings) -> Path:
    """The folder of the private Postgres: the user it runs as may not enter a clone under /root."""
    if os.geteuid() != 0:
        return settings.state / "postgres"
    if settings.mode == "dev":
        return Path("/var/tmp") / f"tuberry-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]}"
    return Path("/var/tmp") / settings.state.name


def read_env(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def write_private(path: Path, values: dict[str, str]) -> None:
    """Writes NAME=value lines that only their owner can read."""
    new_file = path.with_name(f"{path.name}.new")
    new_file.unlink(missing_ok=True)
    with os.fdopen(os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    new_file.replace(path)


def _check(settings: Settings) -> None:
    for name in ("PORT", "JWT_EXPIRES", "REFRESH_EXPIRES", "POLL_INTERVAL_SECONDS", "WEBHOOK_POLL_INTERVAL_SECONDS",
                 "AUTO_REPLY_DELAY_SECONDS", "WORKER_TIMEOUT_SECONDS", "WORKER_VISIBILITY_SECONDS"):
        if not settings[name].isdecimal() or not 0 < int(settings[name]) <= (65535 if name == "PORT" else 31_536_000):
            raise Failure(f"{name} must be a whole number above 0, not {settings[name]!r}.")
    if int(settings["WORKER_VISIBILITY_SECONDS"]) < int(settings["WORKER_TIMEOUT_SECONDS"]):
        raise Failure("WORKER_VISIBILITY_SECONDS must not be below WORKER_TIMEOUT_SECONDS.")
    if settings["LOCAL_SEED"] not in ("demo", "none"):
        raise Failure(f"LOCAL_SEED must be demo or none, not {settings['LOCAL_SEED']!r}.")
    for name in ("JWT_SECRET_KEY", "SERVICE_TOKEN"):
        if len(settings[name]) < 32:
            raise Failure(f"{name} is too short: it must have 32 characters or more.")
    for name in FROM_OUTSIDE:
        parts = urlsplit(settings.values.get(name, ""))
        if settings.given(name) and (parts.scheme not in SCHEMES.get(name, ("http", "https")) or not parts.hostname):
            # The value may hold a password, so it is not shown.
            raise Failure(f"{name} is not a usable address: expected {SCHEMES.get(name, ('http',))[0]}://host….")
