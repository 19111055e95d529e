"""The rooms of the house: one component a file, each handing its outputs to the next."""

PACKAGE = "swarm-site"
"""Prefix of every component's type token."""
