"""Garbage collection in the process that workers are forked from; the first module it imports.

Python's garbage collector writes to each object that it inspects, and a page of memory that a
worker writes to is no longer shared. Frozen objects are not inspected. (docs.python.org,
`gc.freeze`) The collector is off during the imports: their objects are no garbage, and inspecting
them took a fifth of the time.
"""

import gc
import os

gc.disable()
os.register_at_fork(before=gc.freeze, after_in_child=gc.enable)
