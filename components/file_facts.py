"""Facts derived from files' bytes, kept in the user's cache: a file is read again only after a change."""

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from components.contract import PACKAGE, PROJECT
from components.digest import CHUNK_BYTES, text_hash

SETTLED_SECONDS = 1
"""Minimum age of a change for its times to distinguish it from the next: two changes may share a file system's tick."""
KEY = re.compile(
    rb"""(?:^[ \t]*|["'])-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[ \t]*(?:\r?\n|(?:\\r)?\\n)"""
    rb"(?:[ \t]*[\w-]+: [^\n]*\n)*\s*[A-Za-z0-9+/=]{16}",
    re.MULTILINE,
)
"""A private key as OpenSSL, OpenSSH and GnuPG write it, also indented in YAML or as a string in JSON; a page that only
quotes the first line does not match."""
KEY_WORD, PUTTY = b"PRIVATE KEY", b"PuTTY-User-Key-File-"
KEY_BYTES = 4096
"""Upper bound of the identifying part of a key; each chunk is searched with this many bytes of the one before."""


@dataclass(frozen=True)
class FileFacts:
    """Facts about a file.

    Attributes:
        hash: SHA-256 (hex) of its bytes.
        is_key: whether they hold a private key.
        stamp: size, times and inode of the file when it was read; a change of the bytes changes them.
    """

    hash: str
    is_key: bool
    stamp: Sequence[int]


def file_facts(path: Path) -> FileFacts:
    """Return the facts of a file, from an earlier run if the file has not changed since."""
    name, found = str(path.absolute()), path.stat()
    stamp = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    known = _used().get(name) or _kept().get(name)
    if not known or known.stamp != stamp:
        known = FileFacts(*_read(path), stamp)
    _used()[name] = known
    return known


def keep_facts() -> None:
    """Keep the facts used by this process for the next one; without a cache to write to, files are read again."""
    settled = time.time_ns() - SETTLED_SECONDS * 10**9
    facts = {name: known for name, known in _used().items() if max(known.stamp[1:3]) < settled}
    if facts == _kept():
        return
    path = _cache_file()
    draft = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({name: [known.hash, known.is_key, known.stamp] for name, known in facts.items()}))
        draft.replace(path)


@cache
def _kept() -> dict[str, FileFacts]:
    """Return the facts that the last run kept, by absolute path."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        return {name: FileFacts(*values) for name, values in json.loads(_cache_file().read_text()).items()}
    return {}


@cache
def _used() -> dict[str, FileFacts]:
    """Return the facts used by this process, by absolute path."""
    return {}


def _cache_file() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / PACKAGE / "files" / f"{text_hash(f'{PROJECT} {KEY.pattern!r}')[:16]}.json"


def _read(path: Path) -> tuple[str, bool]:
    digest, is_key, rest = hashlib.sha256(), False, b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            is_key = is_key or _has_key(rest + chunk)
            rest = chunk[-KEY_BYTES:]
    return digest.hexdigest(), is_key


def _has_key(text: bytes) -> bool:
    """Return whether the text contains a key. Most bytes are only searched for a literal, which is fast."""
    return text.startswith(PUTTY) or (KEY_WORD in text and KEY.search(text) is not None)
