# Starts tools/images.py. Inputs: IMAGE, RECIPE, SOURCE, MIRROR, ARCHIVES, LOG, KEEP_ARCHIVE.
set -euo pipefail
: "$IMAGE" "$RECIPE" "$SOURCE" "$MIRROR" "$ARCHIVES" "$LOG" "$KEEP_ARCHIVE" # each must be set
exec .venv/bin/python -m tools.images
