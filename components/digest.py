"""Content hashes that serve as identities."""

import hashlib
import os
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


def text_hash(text: str) -> str:
    """Return the SHA-256 (hex) of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def folder_hash(folder: Path) -> str:
    """Return the SHA-256 (hex) of a folder's file names and bytes, as `templates/content/hash.sh` computes it.

    It hashes the lines `<sha256 of the file>  ./<path>` in byte order of paths; modes and times don't count.
    """
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: os.fsencode(p.relative_to(folder))
    )
    return text_hash("".join(f"{_file_hash(path)}  ./{path.relative_to(folder)}\n" for path in files))


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
