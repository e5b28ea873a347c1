"""Settings of all tests."""

import signal

from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("earshot", deadline=None)
settings.load_profile("earshot")

# A shell starts what it puts in the background deaf to Ctrl-C, and programs that tests start and
# interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
