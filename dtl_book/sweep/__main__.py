"""``python -m dtl_book.sweep WORK ANSWER``: see ``worker``."""

import sys

from .worker import main

main(*sys.argv[1:])
