"""Addresses of databases and servers, as messages and records show them: without what lets one in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

HIDDEN = "***"

# A query holds passwords under many names (password, token, sslpassword, odbc_connect): only what holds none stays.
_HARMLESS = {"application_name", "cache", "charset", "connect_timeout", "dbname", "driver", "host", "immutable", "mode"}
_HARMLESS |= {"port", "sslmode", "timeout", "uri"}
_FILES = {"sqlite", "file"}

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_AUTHORITY = re.compile(r"[^/?#]*")
_PORT = re.compile(r":([0-9]+|)$")
_URL = re.compile(
    _SCHEME.pattern + r"[^\s'\"<>]+(?<![).,;:\]])|[^\s'\"<>()]+:[^\s'\"<>()@]+@[^\s'\"<>()]+"  # or what was to be one
)
_PAIR = re.compile(
    r"((?<![a-z_])(?:[a-z_]*_)?(?:ssl)?(?:password|passwd|pwd|token|secret|api_?key|access_?key)\s*=\s*)"
    r"('[^']*'|\"[^\"]*\"|[^\s&;,]+)",
    re.IGNORECASE,
)
_OF_AN_ADDRESS = re.compile(r"--[\w-]*?(?:ur[li]|to)", re.IGNORECASE)
_SHORT = 4
"""A secret of fewer characters is no word of its own: it would be found in the middle of others."""


def is_address(text: str) -> bool:
    """Whether it begins as an address does: what was to be a file or folder is not one."""
    return _SCHEME.match(text) is not None


def shown(url: str) -> str:
    """The address without user, password, token and whatever else a query may hold; any text, however malformed.

    A well-formed address stays usable: its user and password are left out, and ``***`` stands only where something
    else was hidden.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        before, at, after = url.rpartition("@")
        secret = at and ":" in before and not before.startswith(("/", "."))
        return _without_pairs(f"{HIDDEN}@{after}" if secret else url)
    rest = url[scheme.end() :]
    if _kind(url) in _FILES and rest.startswith("/"):
        path, mark, query = rest.partition("?")
        return scheme[0] + path + _query(mark, query)
    authority = _AUTHORITY.match(rest)
    assert authority is not None  # it may be empty
    user, at, _ = rest.rpartition("@")
    if at:
        # An '@', a '/' or a '?' in a password that is not escaped: only what follows the last '@' is no part of it.
        rest = rest[len(user) + 1 :] if len(user) < authority.end() else f"{HIDDEN}@{rest[len(user) + 1 :]}"
    return scheme[0] + _without_query(rest)


def hidden(text: str, *urls: str) -> str:
    """Somebody else's words, such as a driver's, with every address in them shown, and no part of a secret of these."""
    for url in urls:
        text = text.replace(url, shown(url)) if url else text
        for secret in _secrets(url):
            text = text.replace(secret, HIDDEN)
    return _without_pairs(_URL.sub(lambda found: shown(found[0]), text))


def hidden_command(arguments: Sequence[str]) -> str:
    """A command line as a record keeps it."""
    told = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        name, sign, value = argument.partition("=")
        if sign and _OF_AN_ADDRESS.fullmatch(name):
            told.append(f"{name}={shown(value)}")
        else:
            told.append(shown(argument) if _OF_AN_ADDRESS.fullmatch(before) else hidden(argument))
    return " ".join(told)


def _without_query(rest: str) -> str:
    """What follows the scheme and the user: host, port and path; a port that is none may be a password."""
    lead = f"{HIDDEN}@" if rest.startswith(f"{HIDDEN}@") else ""
    rest = rest.removeprefix(lead)
    found = _AUTHORITY.match(rest)
    host = found[0] if found else ""
    if ":" in host.rpartition("]")[2] and not _PORT.search(host):
        return f"{lead}{host.partition(':')[0]}:{HIDDEN}"
    address, fragment, _ = rest.partition("#")
    address, mark, query = address.partition("?")
    return lead + address + _query(mark, query) + (f"#{HIDDEN}" if fragment else "")


def _query(mark: str, query: str) -> str:
    parts = [part.partition("=") for part in re.split("[&;]", query)]
    return mark + "&".join(
        f"{name}={value if name.lower() in _HARMLESS else HIDDEN}" if sign else HIDDEN
        for name, sign, value in parts
        if name
    )


def _without_pairs(text: str) -> str:
    return _PAIR.sub(rf"\1{HIDDEN}", text)


def _secrets(url: str) -> list[str]:
    """The parts of an address that are not shown, as written and as decoded, the longest first."""
    scheme = _SCHEME.match(url)
    rest = url[scheme.end() :] if scheme else url
    if _kind(url) in _FILES and rest.startswith("/"):
        rest = rest.partition("?")[2]
    user = rest.rpartition("@")[0]
    query = rest.partition("?")[2]
    # A user without a password is a name, in a database's own words too; of a server it may be a token.
    parts = [user if ":" in user or _kind(url).startswith("http") else "", user.partition(":")[2], query]
    for part in re.split("[&;#]", query):
        name, _, value = part.partition("=")
        parts += [] if name.lower() in _HARMLESS else [value]
    found = {form for part in parts for form in (part, unquote(part)) if len(form) >= _SHORT}
    return sorted(found, key=len, reverse=True)


def _kind(url: str) -> str:
    return url.partition("://")[0].partition("+")[0].lower()
