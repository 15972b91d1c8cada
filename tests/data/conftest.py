"""Shared by the tests of data: a VTAB-1K folder that is right in everything, made once."""

import pytest
from stand_ins import kitti, link_tree


@pytest.fixture(scope="session")
def whole_vtab(tmp_path_factory):
    return kitti(tmp_path_factory.mktemp("whole") / "vtab-1k")


@pytest.fixture
def vtab_stand_in(whole_vtab, tmp_path):
    """A copy to plant faults in: replace its files (``stand_ins.put``), never write into them."""
    return link_tree(whole_vtab, tmp_path / "vtab-1k")
