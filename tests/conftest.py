"""What all tests begin with."""

import signal

# A process that a script started in the background ignores Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
