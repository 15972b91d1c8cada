"""``python -m dtl_core`` is ``dtl``, whose commands live in ``dtl_book``; nothing else here knows that package."""

import runpy

if __name__ == "__main__":
    runpy.run_module("dtl_book", run_name="__main__", alter_sys=True)
