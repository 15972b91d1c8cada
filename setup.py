"""Puts the recorded results into the wheel; everything else about the package stands in pyproject.toml.

A notebook that was installed from a wheel (on Colab, say) reads the cards from there. In git they lie once, in results/.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RESULTS = Path(__file__).resolve().parent / "results"


def recorded() -> list[Path]:
    """The record itself, below results/: no toy run, no failed run, no summary of the last sweep, nothing measured on a CPU."""
    files = sorted(path.relative_to(RESULTS) for path in RESULTS.rglob("*.json"))
    files = [path for path in files if path.parts[0] != "smoke" and path.parts[:2] != ("measured", "cpu")]
    return [path for path in files if "failed" not in path.parts and path.stem != "sweep"]


class BuildWithResults(build_py):
    """Copies results/ to dtl_book/resources/results of the wheel. An editable install reads results/ itself."""

    def run(self) -> None:
        if self.editable_mode:
            return super().run()
        # what an earlier build left in the same folder would go into this wheel, deleted files too
        for package in ("dtl_core", "dtl_book"):
            shutil.rmtree(Path(self.build_lib, package), ignore_errors=True)
        super().run()
        target = Path(self.build_lib, "dtl_book", "resources", "results")
        for path in recorded():
            self.mkpath(str(target / path.parent))
            self.copy_file(str(RESULTS / path), str(target / path))

    def get_source_files(self) -> list[str]:
        """What an sdist has to hold besides, so that a wheel can be built from it."""
        return super().get_source_files() + [f"results/{path.as_posix()}" for path in recorded()]


setup(cmdclass={"build_py": BuildWithResults})
