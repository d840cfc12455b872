"""The demonstration: an owner with a bot, a forum group and an Avito account, made through the API as a person would."""

import hashlib
import hmac
import json
import secrets
import time
import urllib.error
import urllib.request
from pathlib import Path

from processes import Failure
from settings import Settings, read_env, write_private

OWNER = {"id": 1_000_001, "first_name": "Ольга", "username": "olga_demo"}
GROUP, GROUP_TITLE = -1_002_000_000_001, "Продажи — демо"
SELLER, BUYER = 94_235_311, {"id": 76_543_210, "name": "Иван"}
CHAT = "u2i-demo~1"
ITEM = {"id": 2_345_678_901, "title": "Велосипед «Урал»", "price_string": "12 000 ₽", "url": "https://avito.ru/items/2345678901", "city": "Казань"}
FIRST_TEXT = "Здравствуйте! Велосипед ещё продаётся?"


class Caller:
    """Calls the stack from outside, as a frontend or a person with curl does."""

    def __init__(self, base: str):
        self._base, self.token = base, ""

    def call(self, method: str, path: str, body: dict | None = None) -> tuple[int, dict]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._base + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, {"detail": text[:500]}

    def must(self, what: str, method: str, path: str, body: dict | None = None) -> dict:
        status, answer = self.call(method, path, body)
        if status >= 300:
            detail = answer.get("detail") or answer.get("message") or answer.get("error") or ""
            raise Failure(f"The demonstration could not be set up: {what} was answered with {status}.", str(detail))
        return answer


def seed(settings: Settings) -> dict:
    """Creates what is missing of the demonstration and returns what a person needs to try it."""
    demo = _load_or_create(settings.state / "demo")
    stack = Caller(settings.api)
    _prepare_outside(stack, demo)
    signed_in = stack.must("signing the owner in", "POST", "/api/auth/telegram", sign_widget(OWNER, settings["MASTER_BOT_TOKEN"]))
    stack.token = signed_in["access_token"]
    bot = _first(stack, "/api/bots") or stack.must(
        "connecting the bot", "POST", "/api/bots", {"token": demo["BOT_TOKEN"], "group_chat_id": GROUP})
    if not _first(stack, "/api/avito/accounts"):
        stack.must("connecting the Avito account", "POST", "/api/avito/accounts", {
            "name": "Демо", "api_client_id": demo["AVITO_CLIENT_ID"], "api_client_secret": demo["AVITO_CLIENT_SECRET"], "bot_id": bot["id"]})
    return {"thread": _first_topic(stack), "access_token": stack.token, **demo}


def sign_widget(person: dict, bot_token: str) -> dict:
    """The fields that Telegram's Login Widget hands to a page for this person, signed as Telegram signs them."""
    fields = {**person, "auth_date": int(time.time())}
    lines = "\n".join(f"{name}={value}" for name, value in sorted(fields.items()))
    key = hashlib.sha256(bot_token.encode()).digest()
    return {**fields, "hash": hmac.new(key, lines.encode(), hashlib.sha256).hexdigest()}


def _load_or_create(path: Path) -> dict[str, str]:
    stored = read_env(path)
    if not stored:
        stored = {
            "BOT_TOKEN": f"{5_000_000_000 + secrets.randbelow(900_000_000)}:{secrets.token_urlsafe(27)[:35]}",
            "AVITO_CLIENT_ID": secrets.token_urlsafe(15),
            "AVITO_CLIENT_SECRET": secrets.token_urlsafe(30),
        }
        write_private(path, stored)
    return stored


def _prepare_outside(stack: Caller, demo: dict) -> None:
    # Bots, groups and sellers live outside: here, in the simulators.
    stack.must("the simulated bot", "POST", "/_local/telegram/bots", {"token": demo["BOT_TOKEN"], "username": "demo_sales_bot"})
    stack.must("the simulated group", "POST", "/_local/telegram/chats",
               {"chat_id": GROUP, "title": GROUP_TITLE, "is_forum": True, "bot_token": demo["BOT_TOKEN"]})
    stack.must("the simulated Avito account", "POST", "/_local/avito/accounts", {
        "client_id": demo["AVITO_CLIENT_ID"], "client_secret": demo["AVITO_CLIENT_SECRET"], "user_id": SELLER, "name": "Веломастерская"})


def _first(stack: Caller, path: str) -> dict | None:
    items = stack.must(f"listing {path}", "GET", path)["items"]
    return items[0] if items else None


def _first_topic(stack: Caller) -> int | None:
    """The topic of the demonstration's buyer. At the first start the buyer writes; its arrival shows that all works."""
    if _topic(stack) is None:
        stack.must("the buyer's chat", "POST", "/_local/avito/chats", {"user_id": SELLER, "chat": CHAT, "buyer": BUYER, "item": ITEM})
        chats = stack.must("reading the buyer's chat", "GET", f"/_local/avito/chats?chat={CHAT}")["chats"]
        if not any(chat["messages"] for chat in chats):
            stack.must("the buyer's message", "POST", "/_local/avito/messages", {"chat": CHAT, "from": "buyer", "type": "text", "text": FIRST_TEXT})
    deadline = time.monotonic() + 30
    while (thread := _topic(stack)) is None and time.monotonic() < deadline:
        time.sleep(0.2)
    return thread


def _topic(stack: Caller) -> int | None:
    topics = stack.must("reading the topics", "GET", f"/_local/telegram/topics?chat_id={GROUP}")["topics"]
    for topic in topics:
        alive = topic["thread_id"] is not None and not topic.get("deleted")
        if alive and any(FIRST_TEXT in (message.get("text") or "") for message in topic["messages"]):
            return topic["thread_id"]
    return None
