"""Addresses of assets: what they stand for, and which of them may be opened.

Only https is opened. Plain http is for this machine, or for those who set VITPORT_ALLOW_HTTP=1. A server may send us
elsewhere, but not down to http, not to files, and not into the private network behind the user's firewall.
"""

import ipaddress
import os
import socket
from urllib.parse import quote, urljoin, urlsplit

from vitport.errors import AssetError


def is_remote(url: str) -> bool:
    """Whether `url` is an address, not a local path."""
    return "://" in url


def resolve(url: str) -> str:
    """The https address of a `gs://bucket/object` or `hf://owner/repository/path[@revision]`; others unchanged.

    HF_ENDPOINT names another Hub, as it does for huggingface_hub.
    """
    scheme, _, rest = url.partition("://")
    if not url.isprintable():
        raise AssetError(f"{url[:100]!a} is not a valid address")
    if scheme == "gs":
        bucket, _, path = rest.partition("/")
        if not (bucket and path):
            raise AssetError(f"{url} names no file; write gs://bucket/path")
        return f"https://storage.googleapis.com/{quote(rest)}"
    if scheme != "hf":
        return url
    rest, _, revision = rest.partition("@")
    owner, _, rest = rest.partition("/")
    repository, _, path = rest.partition("/")
    if not (owner and repository and path):
        raise AssetError(f"{url} names no file; write hf://owner/repository/path, with @revision behind it if needed")
    hub = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    return f"{hub}/{owner}/{repository}/resolve/{quote(revision or 'main', safe='')}/{quote(path)}"


def permit(url: str) -> None:
    """Raises AssetError unless an address given by the user may be opened."""
    host, scheme = host_of(url), urlsplit(url).scheme
    if scheme == "http" and not (is_loopback(host) or os.environ.get("VITPORT_ALLOW_HTTP") == "1"):
        raise AssetError(f"{url} is not encrypted; use https://, or set VITPORT_ALLOW_HTTP=1 if you trust the network")
    if scheme not in ("http", "https"):
        raise AssetError(f"{url} can't be opened; use gs://, hf://, https:// or a local path")


def permit_redirect(source: str, location: str) -> str:
    """The absolute address that `source` redirects to. Raises AssetError if it leads where no server may send us."""
    try:
        target = urljoin(source, location)
    except ValueError:
        raise AssetError(f"{source} redirects to {location!r}, which is no address") from None
    host, scheme = host_of(target), urlsplit(target).scheme
    if scheme not in ("http", "https") or (scheme == "http" and urlsplit(source).scheme == "https"):
        raise AssetError(f"{source} redirects to {target}, which is not https; it is not followed")
    if scheme == "http":
        permit(target)
    if not is_loopback(host_of(source)) and not _all_public(host):
        raise AssetError(f"{source} redirects to {target}, an address of a private network; it is not followed")
    return target


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by name or number."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(url: str) -> str:
    """The host of an address, empty if it has none. Raises AssetError for what is no address."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        raise AssetError(f"{url} is not a valid address") from None


def is_public(number: str) -> bool:
    """Whether an IP address is one that the whole world reaches."""
    return ipaddress.ip_address(number.partition("%")[0]).is_global


def _all_public(host: str) -> bool:
    """Whether every address of `host` is public; an unknown host is left to the connection to refuse."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return True
    return all(map(is_public, found))
