"""One component a file; each hands its outputs to the next."""
