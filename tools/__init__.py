"""User commands: each module implements one Makefile target."""
