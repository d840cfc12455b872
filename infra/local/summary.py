"""The text that `make dev` prints when all is up: addresses, and commands to try."""

import json
import shlex

from emulator import Emulator
from seed import CHAT, GROUP, GROUP_TITLE, OWNER, SELLER
from settings import LOCAL, Settings


def summary(settings: Settings, emulator: Emulator, demo: dict | None) -> str:
    """Addresses, sample accounts and three commands."""
    lines = ["", "Tuberry is up. Ctrl-C stops it; the data stays until `make clean-local`.", ""]
    addresses = {
        "API": f"{settings.api}/api",
        "control of the simulators": f"{settings.api}/_local",
        "Telegram": settings["TELEGRAM_API_BASE"],
        "Avito": settings["AVITO_API_BASE"],
        "AWS": emulator.endpoint,
        "Postgres": settings["DATABASE_URL"] if "@127.0.0.1" in settings["DATABASE_URL"] else "as given",
        "Redis": settings["REDIS_URL"] if "//127.0.0.1" in settings["REDIS_URL"] else "as given",
        "logs": str(settings.logs),
    }
    lines += [f"  {name:<26} {address}" for name, address in addresses.items()]
    if settings.made_up:
        lines += ["", f"Made up now and kept in {LOCAL / 'env'}:"]
        lines += [f"  {name:<26} {settings[name]}" for name in settings.made_up]
    return "\n".join(lines + (_demonstration(settings, demo) if demo else []) + [""])


def _demonstration(settings: Settings, demo: dict) -> list[str]:
    local = f"{settings.api}/_local"
    lines = [
        "",
        "The demonstration:",
        f"  {'owner':<26} Telegram user {OWNER['id']} ({OWNER['first_name']}), signed in; a manager cannot be invited yet",
        f"  {'bot':<26} @demo_sales_bot in the group «{GROUP_TITLE}» ({GROUP})",
        f"  {'Avito account':<26} seller {SELLER}, chat {CHAT}",
    ]
    if demo["thread"] is None:
        return [*lines, "", f"The buyer's first message did not reach a topic within 30 seconds: see {settings.logs}."]
    message = {"chat": CHAT, "from": "buyer", "type": "text", "text": "А торг возможен?"}
    operator = {"id": OWNER["id"], "first_name": OWNER["first_name"]}
    answer = {"chat_id": GROUP, "thread_id": demo["thread"], "text": "Да, приезжайте смотреть", "from": operator}
    return [
        *lines,
        "",
        "Try it. A buyer writes on Avito:",
        f"  {_post(f'{local}/avito/messages', message)}",
        "It is in the group, in the topic of that chat:",
        f"  curl -s '{local}/telegram/topics?chat_id={GROUP}'",
        f"Answer in the topic, and the buyer has it ({local}/avito/chats):",
        f"  {_post(f'{local}/telegram/messages', answer)}",
        "",
        "For the API, a token of the owner that lives as long as access tokens do:",
        f"  curl -s {settings.api}/api/bots -H 'Authorization: Bearer {demo['access_token']}'",
    ]


def _post(url: str, body: dict) -> str:
    return f"curl -s {url} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
