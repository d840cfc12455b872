"""The front door on PORT: the API as a frontend sees it, the simulators' control API, and `/_local/ready`."""

import asyncio
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from processes import Failure
from settings import Settings

# The limit of AWS' gateway.
MAX_BODY_BYTES = 10 * 1024 * 1024
OF_ONE_CONNECTION = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
SAFE = {"GET", "HEAD"}


class Front:
    """Serves from its own thread, so that webhooks pass while the stack is still being put together."""

    def __init__(self, settings: Settings):
        self._port = settings.port
        self.step = "starting"
        self.ready = False
        self.api: str | None = None
        self.control: str | None = None
        # Set where servers may be restarted on request: in tests.
        self.restart: Callable[[str], None] | None = None
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Takes the port. Failure: another program has it."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()
        except OSError:
            raise Failure(f"Port {self._port} is taken by another program: stop that one, or choose a port with PORT=….") from None

    def stop(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_no_traces])
        app.router.add_get("/_local/ready", self._answer_ready)
        app.router.add_post("/_local/services", self._disturb)
        app.router.add_route("*", "/_local/{rest:.*}", self._pass_to_simulators)
        app.router.add_route("*", "/{rest:.*}", self._pass_to_api)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, shutdown_timeout=2).start()
        self._session = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=120), connector=aiohttp.TCPConnector(limit=0), trust_env=False)

    async def _close(self) -> None:
        if self._session:
            await self._session.close()
        if self._runner:
            await self._runner.cleanup()

    async def _answer_ready(self, request: web.Request) -> web.Response:
        if refusal := _foreign(request):
            return refusal
        return web.json_response({"ready": self.ready, "step": self.step}, status=200 if self.ready else 503)

    async def _disturb(self, request: web.Request) -> web.Response:
        """`{"restart": "postgres" | "redis"}`; answers when it is over."""
        if refusal := _foreign(request):
            return refusal
        if self.restart is None:
            return _problem(409, "Only the stack of `make test` can be disturbed.")
        match await request.json():
            case {"restart": "postgres" | "redis" as name}:
                try:
                    await asyncio.get_running_loop().run_in_executor(None, self.restart, name)
                except Failure as failure:
                    return _problem(409, str(failure))
            case _:
                return _problem(400, 'Send {"restart": "postgres"} or {"restart": "redis"}.')
        return web.json_response({})

    async def _pass_to_simulators(self, request: web.Request) -> web.StreamResponse:
        if refusal := _foreign(request):
            return refusal
        # A page elsewhere can send a form here without being asked, but not JSON.
        if request.method not in SAFE and request.content_type != "application/json":
            return _problem(415, "Send Content-Type: application/json.")
        if not self.control:
            return _problem(503, f"The simulators are not up: {self.step}.")
        return await self._forward(request, self.control)

    async def _pass_to_api(self, request: web.Request) -> web.StreamResponse:
        if not self.api:
            return _problem(503, f"The API is not up: {self.step}.")
        return await self._forward(request, self.api)

    async def _forward(self, request: web.Request, base: str) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return web.json_response({"message": "Request Too Long"}, status=413)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in OF_ONE_CONNECTION]
        # The path goes on as it came: what is encoded in it stays encoded.
        target = URL(base + request.raw_path, encoded=True)
        try:
            async with self._session.request(
                    request.method, target, headers=headers, data=body or None, allow_redirects=False,
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type")) as answer:
                passed = [(name, value) for name, value in answer.headers.items() if name.lower() not in OF_ONE_CONNECTION]
                return web.Response(status=answer.status, headers=passed, body=await answer.read())
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return _problem(502, "The part of the stack behind this address does not answer.")


@web.middleware
async def _no_traces(request: web.Request, handler) -> web.StreamResponse:
    response = await handler(request)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _foreign(request: web.Request) -> web.Response | None:
    """Refuses callers from outside this machine: a foreign name that points here, a page from elsewhere."""
    if _name_of(f"//{request.host}") not in ("127.0.0.1", "localhost"):
        return _problem(403, "Call this address as 127.0.0.1 or localhost.")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.host}":
        return _problem(403, "Pages from elsewhere may not call this address.")
    return None


def _name_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response({"status": status, "detail": detail}, status=status, content_type="application/problem+json")
