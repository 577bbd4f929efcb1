"""Programs here are many and small: compiling them is most of what takes time.

They are compiled with few optimisations; `JAX_DISABLE_MOST_OPTIMIZATIONS=0 pytest` has them all.
"""

import os

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
