"""What a user types: each module is one command of the Makefile."""
