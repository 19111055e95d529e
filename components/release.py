"""The release of a content folder: its files and hashes, files left out, and files that must never be published.

usage: python -m components.release FOLDER   prints the paths of its files, NUL-terminated
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
"""Lower-case patterns of file and folder names excluded from a release: hidden names and editors' leftovers."""
PUBLIC = ".well-known"
"""The hidden folder a site may have in its root (RFC 8615)."""
_PATTERNS = "|".join(re.escape(name).replace(r"\*", "[^/]*") for name in LEFT_OUT)
LEFT_OUT_PATHS = rf"^(/{re.escape(PUBLIC)}(?=/|$))?+.*/({_PATTERNS})(/|$)"
"""The same as a regular expression for paths with a leading slash, ignoring case."""
NAMES_SHOWN = 5
KEY_NAMES = ("*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore")
"""Lower-case name patterns of files that hold a private key, whatever their bytes."""
KEY = re.compile(
    rb"^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[ \t]*\r?\n(?:[\w-]+: [^\n]*\n)*\r?\n?[A-Za-z0-9+/=]{16}",
    re.MULTILINE,
)
"""A private key as OpenSSL, OpenSSH and GnuPG write it; a page that only quotes the first line does not match."""
KEY_WORD, PUTTY = b"PRIVATE KEY", b"PuTTY-User-Key-File-"
KEY_BYTES = 4096
"""Upper bound of the identifying part of a key; each chunk is searched with this many bytes of the one before."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A content folder. Paths are relative to it, in byte order.

    Attributes:
        files: regular files of the release.
        others: entries that are neither folders nor regular files.
        folders: folders that are not left out.
        left_out: files and folders not published, topmost only; folders end with a slash.
    """

    files: Sequence[str]
    others: Sequence[str]
    folders: Sequence[str]
    left_out: Sequence[str]

    @property
    def notice(self) -> str:
        """One line that lists the files left out; empty if there are none."""
        if not self.left_out:
            return ""
        names = ", ".join(self.left_out[:NAMES_SHOWN])
        more = len(self.left_out) - NAMES_SHOWN
        return f"not published (hidden names, editors' leftovers): {names}{f' and {more} more' if more > 0 else ''}"


@dataclass(frozen=True)
class FileFacts:
    """Facts derived from a file's bytes: SHA-256 (hex), and whether they hold a private key."""

    hash: str
    is_key: bool


def listing(folder: Path) -> Listing:
    """Return the entries of a content folder. Folders that are left out are not entered."""
    found: dict[str, list[str]] = {"file": [], "other": [], "folder": [], "left out": []}
    for kind, path in _walk(folder, ""):
        found[kind].append(path)
    files, others, folders, left_out = (sorted(paths, key=os.fsencode) for paths in found.values())
    return Listing(files=files, others=others, folders=folders, left_out=left_out)


def _walk(folder: Path, path: str) -> Iterator[tuple[str, str]]:
    """Yield kind and path of everything below a folder."""
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
    """Return whether the last part of a path excludes the file or folder from a release."""
    name = path.rpartition("/")[2].lower()
    return path != PUBLIC and any(fnmatchcase(name, pattern) for pattern in LEFT_OUT)


def release_hash(folder: Path) -> str:
    """Return a release's name: SHA-256 (hex) of file names and bytes, as `templates/content/hash.sh` computes it."""
    return text_hash("".join(f"{facts(folder / path).hash}  ./{path}\n" for path in listing(folder).files))


def is_private_key(path: Path) -> bool:
    """Return whether a file holds a private key, by its name or its bytes."""
    return any(fnmatchcase(path.name.lower(), pattern) for pattern in KEY_NAMES) or facts(path).is_key


def facts(path: Path) -> FileFacts:
    """Return the facts of a file; it is read once, unless it changes."""
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
    """Return whether the text contains a key. Most bytes are only searched for a literal, which is fast."""
    return text.startswith(PUTTY) or (KEY_WORD in text and KEY.search(text) is not None)


if __name__ == "__main__":
    sys.stdout.buffer.write(b"".join(os.fsencode(path) + b"\0" for path in listing(Path(sys.argv[1])).files))
