"""A relay between the functions and the emulator's SQS, which tests can cut for a while."""

import asyncio
import contextlib


class Relay:
    """Passes bytes on, both ways, unless it is cut."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._port = 0
        self._target = 0
        self._open: set[asyncio.StreamWriter] = set()

    def start(self, port: int, target: int) -> str:
        """Listens on `port` of this machine and passes on to the port `target`. Returns the address to use."""
        self._port, self._target = port, target
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(timeout=10)
        return f"http://127.0.0.1:{port}"

    async def cut(self, seconds: float) -> None:
        """Ends every connection and takes no new one for so long."""
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(seconds)
        await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(back)
            try:
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
            finally:
                self._open.discard(back)
                back.close()
        except OSError:
            pass  # The other side sees a closed connection, as it would without us.
        finally:
            self._open.discard(writer)
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
