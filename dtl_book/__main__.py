"""``python -m dtl_book`` is ``dtl``."""

from .cli import main

if __name__ == "__main__":
    main()
