"""The release of a content folder: its files and hashes, files left out, and files that must never be published.

usage: python -m components.release FOLDER RELEASE          fails if the folder's files are not this release
       python -m components.release FOLDER RELEASE SECONDS  also prints its manifest; reads the one before on stdin
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from components.digest import text_hash
from components.file_facts import file_facts, keep_facts

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
    """Return a release's name: the SHA-256 (hex) of lines `<SHA-256 of the file>  ./<path>`, in byte order of paths."""
    release = text_hash("".join(f"{file_facts(folder / path).hash}  ./{path}\n" for path in listing(folder).files))
    keep_facts()
    return release


def is_private_key(path: Path) -> bool:
    """Return whether a file holds a private key, by its name or its bytes."""
    return any(fnmatchcase(path.name.lower(), pattern) for pattern in KEY_NAMES) or file_facts(path).is_key


def manifest(folder: Path, before: str, seconds: int) -> str:
    """Return a release's manifest: the time of the release, then a line `HASH DATE BYTES ./PATH` per file.

    A file keeps its date as long as its bytes stay the same; a new or changed one bears the time of the release.

    Args:
        folder: content folder.
        before: manifest of the release before; empty if there is none.
        seconds: time of the release, in Unix seconds, later than that of the release before.
    """
    dates: dict[tuple[str, str], str] = {}
    for line in before.split("\n")[1:-1]:
        digest, date, _, path = line.split(" ", 3)
        dates[digest, path] = date
    lines = [str(seconds)]
    for path in listing(folder).files:
        facts, name = file_facts(folder / path), f"./{path}"
        lines.append(f"{facts.hash} {dates.get((facts.hash, name), seconds)} {facts.stamp[0]} {name}")
    return "".join(f"{line}\n" for line in lines)


def main(folder: Path, release: str, *seconds: str) -> None:
    """Check that the files are this release; given its time, also write its manifest, with the one before on stdin."""
    if release_hash(folder) != release:
        sys.exit("the files changed during this run")
    for time in seconds:
        sys.stdout.buffer.write(os.fsencode(manifest(folder, os.fsdecode(sys.stdin.buffer.read()), int(time))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
