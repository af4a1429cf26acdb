"""An HTTP server on this machine that misbehaves on demand: each path plays a list of answers, the last one forever."""

import contextlib
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


@dataclass
class Server:
    """Where it listens, what it will answer, and what it was asked: (path, headers) in order."""

    address: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, path: str, *answers: Answer) -> str:
        """Plays `answers` at `path`; returns its address."""
        self.answers[path] = list(answers)
        return f"{self.address}{path}"

    def next_answer(self, path: str, headers: dict[str, str]) -> Answer:
        with self.lock:
            self.requests.append((path, headers))
            answers = self.answers.get(path, [status(404)])
            return answers.pop(0) if len(answers) > 1 else answers[0]


class Handler(BaseHTTPRequestHandler):
    """Plays the next answer of the path."""

    protocol_version = "HTTP/1.1"
    scene: Server

    def do_GET(self) -> None:
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            self.scene.next_answer(self.path, dict(self.headers))(self)

    def log_message(self, *args: object) -> None:
        """Silence."""

    def start(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of 127.0.0.1, until the block ends."""
    handler = type("SceneHandler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        handler.scene = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield handler.scene
        finally:
            handler.scene.closing.set()
            http.shutdown()


# Answers.


def whole(body: bytes, **headers: str) -> Answer:
    """All of it, whatever was asked."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Length": str(len(body)), **headers})
        handler.wfile.write(body)

    return answer


def ranged(body: bytes, etag: str = '"1"', *, upto: int | None = None, stall: bool = False) -> Answer:
    """A good server of ranges (RFC 9110, 14); with `upto`, the connection breaks or stalls at that byte of the file."""

    def answer(handler: Handler) -> None:
        start = _start(handler, etag)
        if start >= len(body):
            return handler.start(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
        headers = {"ETag": etag, "Content-Length": str(len(body) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.start(206 if start else 200, headers)
        handler.wfile.write(body[start:upto])
        if stall:
            handler.scene.closing.wait(10)
        return None

    return answer


def _start(handler: Handler, etag: str) -> int:
    asked = handler.headers.get("Range", "")
    if not asked or handler.headers.get("If-Range", etag) != etag:
        return 0
    return int(asked.removeprefix("bytes=").removesuffix("-"))


def without_length(body: bytes, **headers: str) -> Answer:
    """A body that ends where the connection does."""

    def answer(handler: Handler) -> None:
        handler.start(200, headers)
        handler.wfile.write(body)

    return answer


def lying(body: bytes, length: int) -> Answer:
    """Another Content-Length than the body has."""
    return whole(body, **{"Content-Length": str(length)})


def wrong_range(body: bytes, start: int, etag: str = '"1"') -> Answer:
    """206 with bytes from `start`, whatever was asked."""

    def answer(handler: Handler) -> None:
        headers = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}", "ETag": etag}
        handler.start(206, {**headers, "Content-Length": str(len(body) - start)})
        handler.wfile.write(body[start:])

    return answer


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """An error."""

    def answer(handler: Handler) -> None:
        handler.start(code, {"Content-Length": str(len(body)), **headers})
        handler.wfile.write(body)

    return answer


def redirect(location: str, code: int = 302) -> Answer:
    """Somewhere else."""
    return status(code, Location=location)


def gzipped(body: bytes) -> Answer:
    """Compressed though nobody asked."""
    packed = gzip.compress(body)
    return whole(packed, **{"Content-Encoding": "gzip", "Content-Length": str(len(packed))})


def endless() -> Answer:
    """Zeros without end or length."""

    def answer(handler: Handler) -> None:
        handler.start(200, {})
        while not handler.scene.closing.is_set():
            handler.wfile.write(bytes(2**16))

    return answer


def chunked(body: bytes, upto: int | None = None) -> Answer:
    """In chunks of 10,000 bytes (RFC 9112, 7.1); with `upto`, the connection breaks at that byte."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Transfer-Encoding": "chunked"})
        for at in range(0, len(body[:upto]), 10_000):
            piece = body[at : min(at + 10_000, upto or len(body))]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if upto is None:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def dripping(head: bytes, body: bytes, piece: int = 1, pause: float = 0.03) -> Answer:
    """`head` at once, then `body`, `piece` bytes at a time with a pause behind each."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(head)
        for at in range(0, len(body), piece):
            if handler.scene.closing.is_set():
                return
            handler.wfile.write(body[at : at + piece])
            time.sleep(pause)

    return answer


def drop() -> Answer:
    """Closes the connection without a word."""
    return lambda handler: None
