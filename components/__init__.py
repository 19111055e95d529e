"""One component per file; each passes its outputs to the next."""
