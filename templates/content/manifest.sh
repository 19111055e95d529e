# shellcheck shell=bash

# dated FOLDER, on the node: prints DATE BYTES ./PATH of its files; dates in whole seconds where they are.
dated() { find "$1" -type f -printf '%T@ %s ./%P\n' | sed 's/^\([0-9]*\)\.0* /\1 /'; }

# intact FOLDER MANIFEST, on the node: the folder holds the files of the manifest and no others, by path, size and date.
intact() { cmp -s <(dated "$1" | LC_ALL=C sort) <(tail -n +2 "$2" | cut -d' ' -f2- | LC_ALL=C sort); }
