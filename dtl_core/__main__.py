"""``python -m dtl_core`` is ``dtl``."""

from .cli import main

if __name__ == "__main__":
    main()
