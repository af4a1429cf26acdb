"""One file over HTTP: resumed, retried, and never believed.

RFC 9110: a range request carries If-Range with the version that the first bytes were of (13.1.5), so a server either
continues that very version or sends the file anew; Retry-After (10.2.3) is obeyed up to a limit.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from vitport import __version__
from vitport.archive import CHUNK
from vitport.assets.addresses import host_of, is_loopback, permit, permit_redirect, resolve
from vitport.assets.connection import Watch
from vitport.assets.partial import Partial
from vitport.errors import AssetError, Mismatch

LARGEST = 4 * 2**30
"""Bytes of a file whose size the manifest doesn't give; the largest published one has 1.4e9."""

REDIRECTS = 5
REDIRECT_CODES = (301, 302, 303, 307, 308)

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be another one a moment later."""

REFUSALS: dict[int, str] = {
    401: "needs a login (401)",
    403: "is not public (403)",
    404: "does not exist (404)",
    410: "is gone (410)",
    451: "is withheld for legal reasons (451)",
}


NETWORK_ERRORS: dict[str, str] = {
    "NameResolutionError": "its host name is unknown (is there a network?)",
    "NewConnectionError": "nothing answers there (is there a network?)",
    "ConnectTimeoutError": "nothing answers there in time",
    "ReadTimeoutError": "the server went silent",
    "ProxyError": "the proxy refuses the connection",
    "IncompleteRead": "the connection broke",
    "ProtocolError": "the connection broke",
}
"""Exception of urllib3 → what happened."""


@dataclass(frozen=True, slots=True)
class Patience:
    """attempts: in a row without progress. timeout, backoff, longest: seconds of silence, first and longest wait.

    slowest: bytes a second, over periods of `period` seconds; less than a modem brings, and H/14 would take a week.
    """

    attempts: int = 5
    timeout: float = 30.0
    slowest: float = 4096.0
    period: float = 60.0
    backoff: float = 1.0
    longest: float = 120.0
    sleep: Callable[[float], None] = time.sleep


PATIENCE = Patience()


class Transient(Exception):
    """Something that another attempt may not meet; `wait` seconds if the server said how long."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def download(
    url: str,
    partial: Partial,
    size: int | None,
    progress: Callable[[int, int | None], None],
    tell: Callable[[str], None] = lambda message: None,
) -> str:
    """Completes `partial` with the file at `url` and returns its SHA-256.

    size: bytes that the file has, None if unknown. progress: told bytes so far and in all. tell: told of every wait.
    Raises AssetError once the server refuses, gives another size, or failed too often.
    """
    failures, furthest = 0, partial.size
    while True:
        try:
            return _attempt(url, partial, size, progress)
        except Transient as error:
            failures = 1 if partial.size >= furthest + CHUNK else failures + 1
            furthest = max(furthest, partial.size)
            if failures >= PATIENCE.attempts:
                kept = f"; the {partial.size} bytes that came are kept for the next run" if partial.size else ""
                raise AssetError(f"{url} could not be downloaded: {error}, {failures} times{kept}") from None
            wait = _wait(url, error, failures)
            tell(f"{error}; trying again in {wait:.0f} seconds")
            PATIENCE.sleep(wait)


def _wait(url: str, error: Transient, failures: int) -> float:
    if error.wait is not None and error.wait > PATIENCE.longest:
        raise AssetError(f"{url} could not be downloaded: {error}; the server asks to wait {error.wait:.0f} seconds")
    exponential = min(PATIENCE.backoff * 2 ** (failures - 1), PATIENCE.longest)
    return exponential if error.wait is None else error.wait


def _attempt(url: str, partial: Partial, size: int | None, progress: Callable[[int, int | None], None]) -> str:
    address = resolve(url)
    validator = partial.validator(url)
    start = partial.size if validator else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": f"vitport/{__version__}"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": str(validator)}
    with _watch() as watch, _response(address, headers, watch) as response:
        if response.status == 416 and response.headers.get("Content-Range") == f"bytes */{start}":
            return _sha256(partial)
        _refuse_status(url, response, partial)
        if not _continues(url, response, partial, (start, validator)):
            start = 0
            partial.restart(url, _validator(response))
        total = _total(url, response, start, size)
        return _stream(url, response, partial, (start, total, size), progress, watch)


def _watch() -> Watch:
    return Watch(PATIENCE.slowest * PATIENCE.period, PATIENCE.period)


@contextmanager
def _response(address: str, headers: dict[str, str], watch: Watch) -> Iterator[BaseHTTPResponse]:
    """The answer after at most five redirects, every one of them permitted; network errors become Transient."""
    permit(address)
    with ExitStack() as stack:
        try:
            for _ in range(REDIRECTS + 1):
                response = _get(stack.enter_context(_pool(address, watch)), address, headers)
                stack.callback(response.close)
                _refuse_slow(watch)  # headers that were cut read as whole ones
                if response.status not in REDIRECT_CODES:
                    yield response
                    return
                watch.only_public |= not is_loopback(host_of(address))
                address = permit_redirect(address, response.headers.get("Location", ""))
        except LocationValueError as error:
            raise AssetError(f"{address} is not a valid address: {error}") from error
        except HTTPError as error:
            _refuse_slow(watch)
            if isinstance(error, SSLError):
                raise AssetError(f"{address} can't be reached securely: {error}") from error
            raise Transient(_network_error(error)) from error
    raise AssetError(f"{address} is the last of more than {REDIRECTS} redirects; they don't end")


def _get(pool: PoolManager, address: str, headers: dict[str, str]) -> BaseHTTPResponse:
    return pool.request(
        "GET",
        address,
        headers=headers,
        redirect=False,
        retries=False,
        preload_content=False,
        decode_content=False,
        timeout=PATIENCE.timeout,
    )


def _pool(address: str, watch: Watch) -> PoolManager:
    """A watched connection, through the proxy of the environment if there is one for this host."""
    host = host_of(address)
    proxy = getproxies().get(urlsplit(address).scheme)
    direct = not proxy or is_loopback(host) or proxy_bypass(host)
    manager = PoolManager() if direct else ProxyManager(proxy)
    watch.over(manager.connection_from_url(address))
    return manager


def _refuse_slow(watch: Watch) -> None:
    """Raises Transient where it was our watch that ended the connection."""
    if watch.cut:
        raise Transient(f"the server sends less than {PATIENCE.slowest:.0f} bytes a second")


def _network_error(error: HTTPError) -> str:
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((NETWORK_ERRORS[name] for name in names if name in NETWORK_ERRORS), str(error))


def _refuse_status(url: str, response: BaseHTTPResponse, partial: Partial) -> None:
    status = response.status
    if status == 416:
        partial.restart(url, None)
        raise Transient("the server has no such bytes (416)")
    if status in TRANSIENT:
        raise Transient(f"the server answered {status}", _retry_after(response))
    if status not in (200, 206):
        raise AssetError(f"{url} {REFUSALS.get(status, f'was answered with status {status}')}")
    if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise AssetError(f"{url} is sent {encoding}-encoded though that was not asked for; its bytes can't be resumed")


def _retry_after(response: BaseHTTPResponse) -> float | None:
    """Seconds, from a number or a date."""
    text = response.headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _continues(url: str, response: BaseHTTPResponse, partial: Partial, held: tuple[int, str | None]) -> bool:
    """Whether the answer goes on behind the bytes held: (how many, of which version); False if it starts anew.

    Raises Transient, and forgets the bytes, for a range of another place or version than was asked for.
    """
    if response.status == 200:
        return False
    start, validator = held
    same = _validator(response) in (None, validator)
    if start and same and re.match(rf"bytes {start}-\d+/", response.headers.get("Content-Range", "")):
        return True
    partial.restart(url, None)
    raise Transient("the server sent other bytes than those asked for")


def _validator(response: BaseHTTPResponse) -> str | None:
    """A strong ETag, else the date of the last change: what If-Range accepts."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _total(url: str, response: BaseHTTPResponse, start: int, size: int | None) -> int | None:
    """Bytes of the whole file as the server says. Raises AssetError if they are not those expected, or too many."""
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if re.fullmatch(r"\d{1,18}", length) else None
    if total is not None and total != (size or total):
        raise Mismatch(f"{url} has {total} bytes and should have {size}; it is another file, or an error page")
    if total is not None and total > LARGEST and size is None:
        raise AssetError(f"{url} has {total} bytes; without a size in the manifest at most {LARGEST} are fetched")
    return total


def _sha256(partial: Partial) -> str:
    """Of bytes that a server says are all there are: the process ended before they could be verified."""
    with partial.data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stream(
    url: str,
    response: BaseHTTPResponse,
    partial: Partial,
    extent: tuple[int, int | None, int | None],
    progress: Callable[[int, int | None], None],
    watch: Watch,
) -> str:
    """Appends the body and returns the SHA-256 of all bytes."""
    done, total, size = extent
    limit = size or LARGEST
    with partial.data.open("r+b") as file:
        hasher = hashlib.file_digest(file, "sha256")
        while chunk := response.read1(CHUNK, decode_content=False):
            done += len(chunk)
            if done > limit:
                file.flush()
                file.truncate(0)
                raise Mismatch(f"{url} sends more than the {limit} bytes expected; it was cut off")
            file.write(chunk)
            hasher.update(chunk)
            watch.came(len(chunk))
            progress(done, total or size)
        file.flush()
        os.fsync(file.fileno())
    _refuse_slow(watch)
    if total is None and not done:
        raise Transient("the connection ended before a byte came")
    if done < (total or size or 0):
        raise Transient(f"the connection ended after {done} of {total or size} bytes")
    return hasher.hexdigest()
