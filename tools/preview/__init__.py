"""The effect of a change on a stack, in Markdown for a pull request: `make pr-preview`."""
