"""Provide an image that another machine provided first, as the Command of the state does.

usage: python -m tools.provide IMAGE   for scripts that find neither the image nor its archive on this machine
"""

import sys

from components.contract import Step
from tools import stack
from tools.stack import ToolError


def provide() -> int:
    """Run the Command that provides the image.

    Raises:
        ToolError: the state has none for this image, or it failed.
    """
    image = sys.argv[1]
    for command in stack.commands(stack.resources(), Step.IMAGE):
        if command["inputs"]["environment"]["IMAGE"] == image:
            stack.run_again(command)
            return 0
    raise ToolError(f"no step of stack {stack.STACK} provides the image {image}; run again: make up")


if __name__ == "__main__":
    stack.main(provide)
