"""Imported last by the process that workers are forked from: what is in memory by then is shared with them.

Python's garbage collector writes to each object that it looks at, and a page that a worker writes to is copied. What is
frozen it looks at no more. (docs.python.org, `gc.freeze`)
"""

import gc

gc.collect()
gc.freeze()
