"""What of a content folder makes a release: its files and their hashes, what stays here, what must never leave.

usage: python -m components.release FOLDER   prints the paths of its files, each ended by a zero byte
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from components.digest import CHUNK_BYTES, text_hash

LEFT_OUT = (".*", "*~", "#*#", "~$*", "*.bak", "*.orig", "*.rej", "*.swp", "*.swo", "thumbs.db", "desktop.ini")
"""Names of files and folders that are no part of a release, in lower case: hidden ones, and what editors leave."""
PUBLIC = ".well-known"
"""The hidden folder that a site may have in its root (RFC 8615)."""
_PATTERNS = "|".join(re.escape(name).replace(r"\*", "[^/]*") for name in LEFT_OUT)
LEFT_OUT_PATHS = rf"^(/{re.escape(PUBLIC)}(?=/|$))?+.*/({_PATTERNS})(/|$)"
"""The same as a regular expression for paths that begin with a slash, case ignored."""
NAMES_SHOWN = 5
KEY_NAMES = ("*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore")
"""Names of files that hold a private key whatever their bytes, in lower case."""
KEY = re.compile(
    rb"^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[ \t]*\r?\n(?:[\w-]+: [^\n]*\n)*\r?\n?[A-Za-z0-9+/=]{16}",
    re.MULTILINE,
)
"""A private key as OpenSSL, OpenSSH and GnuPG write it; a page that only mentions the first line is none."""
KEY_WORD, PUTTY = b"PRIVATE KEY", b"PuTTY-User-Key-File-"
KEY_BYTES = 4096
"""A key's beginning, up to what makes it one, is shorter; so much of each chunk is looked at with the next one."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A content folder. Paths are relative to it, in byte order.

    Attributes:
        files: regular files that a release consists of.
        others: what is neither a folder nor a regular file.
        folders: the other folders.
        left_out: files and folders that stay here, only the topmost; folders end with a slash.
    """

    files: Sequence[str]
    others: Sequence[str]
    folders: Sequence[str]
    left_out: Sequence[str]

    @property
    def notice(self) -> str:
        """What stays here, in a line; empty if nothing does."""
        if not self.left_out:
            return ""
        names = ", ".join(self.left_out[:NAMES_SHOWN])
        more = len(self.left_out) - NAMES_SHOWN
        return f"not published (hidden names, editors' leftovers): {names}{f' and {more} more' if more > 0 else ''}"


@dataclass(frozen=True)
class FileFacts:
    """What the bytes of a file say: their SHA-256 (hex), and whether they hold a private key."""

    hash: str
    is_key: bool


def listing(folder: Path) -> Listing:
    """What a content folder holds. Folders that are left out are not entered."""
    found: dict[str, list[str]] = {"file": [], "other": [], "folder": [], "left out": []}
    for kind, path in _walk(folder, ""):
        found[kind].append(path)
    files, others, folders, left_out = (sorted(paths, key=os.fsencode) for paths in found.values())
    return Listing(files=files, others=others, folders=folders, left_out=left_out)


def _walk(folder: Path, path: str) -> Iterator[tuple[str, str]]:
    """Kind and path of everything below a folder."""
    try:
        entries = list(os.scandir(folder / path))
    except PermissionError:
        return
    for entry in entries:
        below, is_folder = f"{path}{entry.name}", entry.is_dir(follow_symlinks=False)
        if is_left_out(below):
            yield "left out", f"{below}/" if is_folder else below
        elif is_folder:
            yield "folder", below
            yield from _walk(folder, f"{below}/")
        else:
            yield ("file" if entry.is_file(follow_symlinks=False) else "other"), below


def is_left_out(path: str) -> bool:
    """Whether a file or folder, by the last part of its path, is no part of a release."""
    name = path.rpartition("/")[2].lower()
    return path != PUBLIC and any(fnmatchcase(name, pattern) for pattern in LEFT_OUT)


def release_hash(folder: Path) -> str:
    """A release's name: SHA-256 (hex) of names and bytes of its files, as `templates/content/hash.sh` computes it."""
    return text_hash("".join(f"{facts(folder / path).hash}  ./{path}\n" for path in listing(folder).files))


def is_private_key(path: Path) -> bool:
    """Whether a file holds a private key, by its name or its bytes."""
    return any(fnmatchcase(path.name.lower(), pattern) for pattern in KEY_NAMES) or facts(path).is_key


def facts(path: Path) -> FileFacts:
    """What the bytes of a file say; the file is read once, unless it changes."""
    found = path.stat()
    return _facts(path, (found.st_size, found.st_mtime_ns, found.st_ino))


@cache
def _facts(path: Path, _: tuple[int, int, int]) -> FileFacts:
    digest, is_key, rest = hashlib.sha256(), False, b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            is_key = is_key or _has_key(rest + chunk)
            rest = chunk[-KEY_BYTES:]
    return FileFacts(digest.hexdigest(), is_key)


def _has_key(text: bytes) -> bool:
    """Whether there is a key; most bytes are only searched for a word, which is fast."""
    return text.startswith(PUTTY) or (KEY_WORD in text and KEY.search(text) is not None)


if __name__ == "__main__":
    sys.stdout.buffer.write(b"".join(os.fsencode(path) + b"\0" for path in listing(Path(sys.argv[1])).files))
