"""The connection under a download, watched: whom it really reaches, and whether it brings anything.

- Who answers is judged by the address of the connected socket, before a byte is sent: a name that was public when it
  was looked up may lead into the private network a moment later (DNS rebinding).
- A timeout of silence is no protection from a server that sends a byte now and then, in its handshake, its headers or
  its body; a thread counts bytes and shuts the connection down when too few come.
"""

import contextlib
import socket
import threading
from types import TracebackType

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from vitport.assets.addresses import is_public
from vitport.errors import AssetError


class Watch:
    """Over the connections of one attempt: `with Watch(least, seconds) as watch: watch.over(pool)`.

    least: bytes that must come in every period of so many `seconds`. `only_public`: set once a server has sent us
    elsewhere; `cut`: whether the connection was shut down for bringing less.
    """

    def __init__(self, least: float, seconds: float) -> None:
        self.only_public = self.cut = False
        self._least, self._seconds = least, seconds
        self._came = least
        self._line: socket.socket | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._hang_up()

    def over(self, pool: HTTPConnectionPool) -> None:
        """Every connection that `pool` makes from now on tells this watch."""
        watch, kind = self, pool.ConnectionCls

        class Watched(kind):
            def _new_conn(self) -> socket.socket:
                line = super()._new_conn()
                watch.connected(line, self)
                return line

        pool.ConnectionCls = Watched

    def connected(self, line: socket.socket, connection: HTTPConnection) -> None:
        """A connection is up, and nothing has been sent. Raises AssetError where no redirect may lead."""
        if self.only_public and connection.proxy is None and not is_public(line.getpeername()[0]):
            line.close()
            raise AssetError(f"{connection.host} is at an address of a private network; no redirect there is followed")
        self._hang_up()
        # A second handle of the same connection: that of urllib3 disappears into TLS.
        self._line, self._came = line.dup(), self._least

    def came(self, count: int) -> None:
        """So many bytes of the body are here."""
        self._came += count

    def _count(self) -> None:
        while not self._ended.wait(self._seconds):
            if self._came < self._least and self._line:
                self.cut = True
                with contextlib.suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)
            self._came = 0

    def _hang_up(self) -> None:
        if self._line:
            self._line.close()
