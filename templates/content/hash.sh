# shellcheck shell=bash

# hash_of FOLDER: SHA-256 of file names and contents, as in components/digest.py.
hash_of() { (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum -z | tr "\0" "\n" | sha256sum | cut -d' ' -f1); }
