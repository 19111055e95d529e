# shellcheck shell=bash

# hash_of FOLDER: SHA-256 of its file names and bytes, as components/digest.py computes it.
hash_of() { (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum -z | tr "\0" "\n" | sha256sum | cut -d' ' -f1); }
