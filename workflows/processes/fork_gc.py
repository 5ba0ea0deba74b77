"""Imported first by the process that workers are forked from: what is in memory when they are is
shared with them.

Python's garbage collector writes to each object that it looks at, and a page that a worker writes
to is copied. What is frozen it looks at no more. (docs.python.org, `gc.freeze`) Until then it stays
away: what imports make is no garbage, and to look for some took a fifth of their time.
"""

import gc
import os

gc.disable()
os.register_at_fork(before=gc.freeze, after_in_child=gc.enable)
