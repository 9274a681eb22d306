"""Times of stamps, marks and fingerprints, in nanoseconds since 1970, that are not times of files.

This module imports nothing, because the worker of a target with items imports it.
"""

#: The file does not exist: nothing was done.
NEVER = -1
#: It will be written: newer than everything that exists.
NOW = 1 << 63
