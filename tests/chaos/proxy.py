"""A network that does what it is told: TCP proxies on loopback between one process of mrq's and the servers."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mrq.config import Settings, split_address

PIECE = 65536
LOOK_EVERY = 0.02
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing sends a reset


@dataclass(slots=True)
class Way:
    """One direction of a door.

    Attributes:
        latency: seconds by which each piece is late.
        rate: bytes a second that get through, 0 for as many as come.
        held: whether nothing gets through, as in a partition; what came meanwhile goes on when it is over.
        cuts: whether the next piece is thrown away, and its connection reset: the request was done, its reply lost.
    """

    latency: float = 0.0
    rate: float = 0.0
    held: bool = False
    cuts: bool = False

    def clear(self) -> None:
        self.latency = self.rate = 0.0
        self.held = self.cuts = False


class Door:
    """The way of one process to one server. Any thread may set how it is.

    Attributes:
        up: from the process to the server.
        down: from the server to the process.
        shut: whether new connections are reset at once.
    """

    def __init__(self, network: Network, target: tuple[str, int]) -> None:
        self.up, self.down, self.shut = Way(), Way(), False
        self._network = network
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._server = network.do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def reset(self) -> None:
        """Reset all connections."""

        async def reset() -> None:
            for writer in list(self._open):
                _abort(writer)

        self._network.do(reset())

    def clear(self) -> None:
        """Be a good network again."""
        self.up.clear()
        self.down.clear()
        self.shut = False

    def close(self) -> None:
        """Listen no more."""
        self.reset()
        self._server.get_loop().call_soon_threadsafe(self._server.close)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.shut:
            _abort(writer)
            return
        try:
            there, to_there = await asyncio.open_connection(*self._target)
        except OSError:
            _abort(writer)
            return
        both = {writer, to_there}
        self._open |= both
        try:
            await asyncio.gather(self._pump(reader, to_there, self.up), self._pump(there, writer, self.down))
        finally:
            self._open -= both
            for each in both:
                _abort(each)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                await asyncio.sleep(way.latency + (len(piece) / way.rate if way.rate else 0))
                while way.held:
                    await asyncio.sleep(LOOK_EVERY)
                if way.cuts:
                    break
                writer.write(piece)
                await writer.drain()
            else:
                writer.write_eof()
                return
        _abort(writer)


class Network:
    """All doors; their connections are served by one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-network", daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Have the thread do something, and return what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        """End all connections, and the thread."""

        async def finish() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.do(finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Lane:
    """The doors of one process to all servers, by the server's name.

    Args:
        network: that serves them.
        settings: where the servers are.
    """

    def __init__(self, network: Network, settings: Settings) -> None:
        web = [url.removeprefix("http://") for url in settings.hdfs_urls]
        self.doors = {
            "rabbitmq": [Door(network, split_address(host)) for host in settings.rabbitmq_hosts],
            "zookeeper": [Door(network, split_address(host)) for host in settings.zookeeper_hosts],
            "httpfs": [Door(network, split_address(host)) for host in web],
        }

    def settings(self) -> dict[str, str]:
        """Return the settings, by name, of a process that goes through these doors."""
        at = {kind: ",".join(door.address for door in doors) for kind, doors in self.doors.items()}
        urls = ",".join(f"http://{door.address}" for door in self.doors["httpfs"])
        return {"rabbitmq_hosts": at["rabbitmq"], "zookeeper_hosts": at["zookeeper"], "hdfs_urls": urls}

    def to(self, *kinds: str) -> list[Door]:
        """Return the doors to servers of some kinds, or of all."""
        return [door for kind in kinds or self.doors for door in self.doors[kind]]

    def close(self) -> None:
        """Listen no more."""
        for door in self.to():
            door.close()


def _abort(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset, and throw away what waits to be sent."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    writer.transport.abort()
