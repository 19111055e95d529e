"""What a change does to a stack, in Markdown for a pull request: `make pr-preview`."""
