"""A proxy between devices and aggregator that loses what it is told to lose."""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

_CHUNK_BYTES = 1 << 16
_FRAME_HEADER_BYTES = 9
_HEADERS_FRAME = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What the line does to bytes: holds them up, lets them vanish without a word, takes no new connection.

    ``lost_reply_share`` of the replies that begin to arrive are lost, with the connection that brings them.
    """

    latest_seconds: float = 0.0
    is_silent: bool = False
    is_closed: bool = False
    lost_reply_share: float = 0.0


class Proxy:
    """The line; ``address`` is where devices connect. Its methods may be called from any thread."""

    def __init__(self, target_port: int, chance: random.Random) -> None:
        self.address = ""
        self.weather = Weather()
        self.lost_replies = 0
        self.passed_replies = 0
        self._target_port = target_port
        self._chance = chance
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()

    def change(self, **weather: float | bool) -> None:
        """Change the weather: what is not named is fair."""
        self.weather = replace(Weather(), **weather)  # type: ignore[arg-type]

    def reset(self) -> None:
        """Break every connection that is open."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def _abort_all(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = {writer}
        try:
            if self.weather.is_closed:
                return
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            writers.add(server_writer)
            self._writers |= writers
            replies = Replies(self._is_reply_lost)
            ways = [
                asyncio.ensure_future(self._carry(reader, server_writer, lambda _: False)),
                asyncio.ensure_future(self._carry(server_reader, writer, replies.lose)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or the line ends: either way the connection is over
        finally:
            self._writers -= writers
            for one in writers:
                one.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lose: Callable[[bytes], bool]
    ) -> None:
        """Carry bytes one way until a side is gone, or ``lose`` says that the connection ends here."""
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                if self.weather.latest_seconds:
                    await asyncio.sleep(self._chance.uniform(0, self.weather.latest_seconds))
                if self.weather.is_silent:
                    # A stream with a hole is of no use to anybody: nothing of it arrives any more.
                    await writer.wait_closed()
                    return
                if lose(data):
                    return
                writer.write(data)
                await writer.drain()

    def _is_reply_lost(self) -> bool:
        lost = self._chance.random() < self.weather.lost_reply_share
        self.lost_replies += lost
        self.passed_replies += not lost
        return lost


class Replies:
    """Finds in the bytes of a server, which are frames of HTTP/2, where the reply to a call begins."""

    def __init__(self, is_lost: Callable[[], bool]) -> None:
        self._is_lost = is_lost
        self._rest = b""
        self._seen: set[int] = set()

    def lose(self, data: bytes) -> bool:
        """Whether a reply begins in ``data`` that is to be lost."""
        self._rest += data
        while len(self._rest) >= _FRAME_HEADER_BYTES:
            length = int.from_bytes(self._rest[:3])
            kind, stream = self._rest[3], int.from_bytes(self._rest[5:9])
            if len(self._rest) < _FRAME_HEADER_BYTES + length:
                return False
            self._rest = self._rest[_FRAME_HEADER_BYTES + length :]
            if kind == _HEADERS_FRAME and stream not in self._seen:
                self._seen.add(stream)
                if self._is_lost():
                    return True
        return False


@contextmanager
def proxy(target: str, chance: random.Random) -> Iterator[Proxy]:
    """Stand between devices and the server at ``target`` inside the block."""
    line = Proxy(int(target.rpartition(":")[2]), chance)
    loop = line._loop
    server = loop.run_until_complete(asyncio.start_server(line._connected, "127.0.0.1", 0))
    line.address = "{}:{}".format(*server.sockets[0].getsockname()[:2])
    thread = threading.Thread(target=loop.run_forever, name="proxy")
    thread.start()
    try:
        yield line
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    mine = asyncio.current_task()
    others: list[Awaitable[object]] = []
    for task in asyncio.all_tasks():
        if task is not mine:
            task.cancel()
            others.append(task)
    await asyncio.gather(*others, return_exceptions=True)
