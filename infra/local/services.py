"""Postgres and Redis: the servers that were given, or private ones on free ports, installed when they are missing."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from processes import Failure, Processes, answers
from settings import Settings, postgres_home, read_env, write_private

DATABASE = "tuberry"
OLDEST_POSTGRES = 15
POSTGRES_FOLDERS = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr/local/pgsql")


def check_given(settings: Settings) -> None:
    """Asks the servers that were given by address whether they are there, before anything starts."""
    for name, default_port, what in (("DATABASE_URL", 5432, "Postgres"), ("REDIS_URL", 6379, "Redis")):
        if settings.given(name):
            parts = urlsplit(settings[name])
            if not answers(parts.hostname or "", parts.port or default_port):
                raise Failure(f"{name}: no {what} answers at {parts.hostname}:{parts.port or default_port}.")


def start_postgres(settings: Settings, processes: Processes) -> None:
    """Sets DATABASE_URL and MIGRATION_DATABASE_URL, starting a private server unless an address was given."""
    if not settings.given("DATABASE_URL"):
        port = settings.port_for("postgres")
        _start_private_postgres(settings, processes, port)
        settings["DATABASE_URL"] = f"postgres://postgres@127.0.0.1:{port}/{DATABASE}"
    if not settings.given("MIGRATION_DATABASE_URL"):
        settings["MIGRATION_DATABASE_URL"] = settings["DATABASE_URL"]
    if settings.pooler:
        settings["DATABASE_URL"] = _start_pooler(settings, processes, urlsplit(settings["DATABASE_URL"]))


def _start_pooler(settings: Settings, processes: Processes, database: SplitResult) -> str:
    """Starts PgBouncer before the database and returns its address. Each transaction may get another connection."""
    program = _pgbouncer() or _install("PgBouncer", ["pgbouncer"], "pgbouncer", _pgbouncer)
    port, home = settings.port_for("pgbouncer"), postgres_home(settings)
    name, user = database.path.removeprefix("/"), database.username or "postgres"
    password = f" password={database.password}" if database.password else ""
    _make_home(home)
    configuration = home / "pgbouncer.ini"
    configuration.write_text(f"""[databases]
{name} = host={database.hostname} port={database.port or 5432} user={user}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
""")
    as_postgres = []
    if os.geteuid() == 0:  # It refuses to run as root, as Postgres does.
        os.chown(configuration, *_postgres_ids())
        as_postgres = _as_postgres()
    configuration.chmod(0o600)
    process = processes.start("pgbouncer", [*as_postgres, program, configuration], stop=signal.SIGINT)
    processes.wait_until(lambda: answers("127.0.0.1", port), "pgbouncer", process)
    return f"postgres://{user}@127.0.0.1:{port}/{name}"


def _pgbouncer() -> str | None:
    # Debian's folder for it is not on every user's path.
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def start_redis(settings: Settings, processes: Processes) -> None:
    """Sets REDIS_URL, starting a private server unless an address was given."""
    if settings.given("REDIS_URL"):
        return
    server = shutil.which("redis-server") or _install("Redis", ["redis-server"], "redis", lambda: shutil.which("redis-server"))
    port, home = settings.port_for("redis"), settings.state / "redis"
    home.mkdir(exist_ok=True)
    # Nothing is saved: everything in Redis may vanish, and a start without it shows that.
    options = ["--bind", "127.0.0.1", "--dir", home, "--save", "", "--appendonly", "no"]
    process = processes.start("redis", [server, "--port", port, *options])
    processes.wait_until(lambda: answers("127.0.0.1", port), "redis", process)
    settings["REDIS_URL"] = f"redis://127.0.0.1:{port}/0"


def _start_private_postgres(settings: Settings, processes: Processes, port: int) -> None:
    tools = _postgres_tools() or _install("Postgres", ["postgresql"], "postgresql@17", _postgres_tools)
    home, data = postgres_home(settings), postgres_home(settings) / "data"
    as_postgres = _as_postgres() if os.geteuid() == 0 else []
    if settings.mode == "dev":
        forget_data_of_others(settings, home, data)
    if not (data / "PG_VERSION").exists():
        _make_home(home)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C", "--no-sync"]
        processes.run("initdb", [*as_postgres, tools / "initdb", "-D", data, *options], cwd=Path("/"))
    if settings.mode == "dev":
        mark_data(settings, home)
    major = (data / "PG_VERSION").read_text().strip()
    if major != str(_version(tools)):
        raise Failure(f"The stored data is of Postgres {major}, this machine has {_version(tools)}: run `make clean-local` to start anew.")
    tuning = ["max_connections=300", "listen_addresses=127.0.0.1", "unix_socket_directories="]
    if settings.mode == "test":
        tuning += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
    flags = [part for setting in tuning for part in ("-c", setting)]
    process = processes.start("postgres", [*as_postgres, tools / "postgres", "-D", data, "-p", port, *flags], stop=signal.SIGINT)
    client = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
    ready = [tools / "pg_isready", "-q", *client]
    processes.wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, "postgres", process)
    known = processes.run("psql", [tools / "psql", *client, "-d", "postgres", "-tAc", f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"])
    if "1" not in known:
        processes.run("createdb", [tools / "createdb", *client, DATABASE])


def forget_data_of_others(settings: Settings, home: Path, data: Path) -> None:
    """Removes what an earlier clone at this path left: it is sealed with keys that this clone does not have."""
    if not (data / "PG_VERSION").exists():
        return
    ours, theirs = _marker(settings.state), _marker(home)
    # Clones from before there were markers have this pointer alone.
    is_older = not ours and not theirs and (settings.state / "postgres-home").exists()
    if is_older or (ours and ours == theirs):
        return
    _check_owner(home)
    print(f"           the data in {home} is not this clone's: the database begins anew", flush=True)
    shutil.rmtree(data)


def mark_data(settings: Settings, home: Path) -> None:
    """Writes one marker into the data's folder and into `.local/`, and there also where the data is."""
    marker = _marker(settings.state) or secrets.token_hex(16)
    for folder in (home, settings.state):
        write_private(folder / "marker", {"MARKER": marker})
    (settings.state / "postgres-home").write_text(f"{home}\n")


def _marker(folder: Path) -> str:
    return read_env(folder / "marker").get("MARKER", "")


def _make_home(home: Path) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        _check_owner(home)
        os.chown(home, *_postgres_ids())


def _check_owner(home: Path) -> None:
    """Anybody may write below /var/tmp, where a link could lead root to the data of others."""
    if os.geteuid() == 0 and (home.is_symlink() or home.stat().st_uid not in (0, _postgres_ids()[0])):
        raise Failure(f"{home} belongs to another user: remove it and start again.")


def _postgres_ids() -> tuple[int, int]:
    import pwd

    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        raise Failure("Postgres refuses to run as root and there is no user `postgres`: add one, or set DATABASE_URL.") from None
    return entry.pw_uid, entry.pw_gid


def _as_postgres() -> list[str]:
    if not shutil.which("setpriv"):
        raise Failure("Postgres refuses to run as root and `setpriv` is missing: install util-linux, or set DATABASE_URL.")
    uid, gid = _postgres_ids()
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--init-groups", "env", "-C", "/"]


def _postgres_tools() -> Path | None:
    """The folder of the newest server programs, on the path or where packages put them."""
    found = [Path(tool).resolve().parent for tool in [shutil.which("postgres"), shutil.which("initdb")] if tool]
    for folder in POSTGRES_FOLDERS:
        found += [path.parent for pattern in ("*/bin/initdb", "postgresql*/bin/initdb", "bin/initdb") for path in Path(folder).glob(pattern)]
    complete = [tools for tools in found if all((tools / name).exists() for name in ("initdb", "postgres", "psql", "createdb", "pg_isready"))]
    newest = max(complete, key=_version, default=None)
    if newest and _version(newest) < OLDEST_POSTGRES:
        raise Failure(f"Postgres {_version(newest)} is too old: {OLDEST_POSTGRES} or newer is needed, or set DATABASE_URL.")
    return newest


def _version(tools: Path) -> int:
    words = subprocess.run([tools / "postgres", "--version"], check=False, capture_output=True, text=True).stdout.split()
    return int(words[2].split(".")[0].rstrip("abcdefghijklmnopqrstuvwxyz")) if len(words) > 2 else 0


def _install(what: str, packages: list[str], formula: str, find):
    """Installs what is missing, saying so; `find` looks for it again."""
    root = [] if os.geteuid() == 0 else ["sudo"]
    by_hand = f"install it (Debian and Ubuntu: `apt-get install {' '.join(packages)}`; macOS: `brew install {formula}`)"
    if shutil.which("apt-get") and (not root or shutil.which("sudo")):
        print(f"  {what} is missing: installing {' '.join(packages)} with apt-get", flush=True)
        _install_with_apt(root, packages)
    elif shutil.which("brew"):
        print(f"  {what} is missing: installing {formula} with brew", flush=True)
        subprocess.run(["brew", "install", formula], check=False, stdout=subprocess.DEVNULL)
    found = find()
    if not found:
        raise Failure(f"{what} is missing and could not be installed: {by_hand}, or give the address of a server.")
    return found


def _install_with_apt(root: list[str], packages: list[str]) -> None:
    # Debian's packages start services of their own, and Postgres' also makes a cluster on 5432: neither is wanted here.
    keep_quiet = """
        cluster=/etc/postgresql-common/createcluster.d/tuberry.conf policy=/usr/sbin/policy-rc.d
        trap 'rm -f "$cluster"; [ -z "$made" ] || rm -f "$policy"' EXIT
        mkdir -p "${cluster%/*}" && echo 'create_main_cluster = false' >"$cluster"
        [ -e "$policy" ] || { printf '#!/bin/sh\\nexit 101\\n' >"$policy" && chmod 755 "$policy" && made=yes; }
        apt-get -qq update
        apt-get -qq -y --no-install-recommends install "$@" >/dev/null
    """
    subprocess.run([*root, "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", keep_quiet, "sh", *packages], check=False)
