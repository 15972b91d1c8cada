"""Unpacking archives of others: safely, and on from where it stopped."""

import stat
import tarfile
import zipfile

import pytest
from stand_ins import zipped

from dtl_book.fetch.packages import FetchError
from dtl_book.fetch.unpack import unpack


def test_broken_unpacking_goes_on_where_it_stopped(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"t/one.txt": b"one", "t/two.txt": b"two"}))
    (tmp_path / "out" / "t").mkdir(parents=True)
    (tmp_path / "out/t/one.txt").write_bytes(b"ONE")  # of full size: taken as it is
    (tmp_path / "out/t/two.txt").write_bytes(b"t")
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert [(tmp_path / "out/t" / n).read_bytes() for n in ("one.txt", "two.txt")] == [b"ONE", b"two"]
    assert sorted(p.name for p in (tmp_path / "out/t").iterdir()) == ["one.txt", "two.txt"]


def link(archive):
    member = zipfile.ZipInfo("vtab-1k/cifar/link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(member, "/etc/passwd")


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda a: a.writestr("../../outside.txt", b"x"), "would lie outside"),
        (lambda a: a.writestr("/tmp/outside.txt", b"x"), "would lie outside"),
        (lambda a: a.writestr("a/..\\outside.txt", b"x"), "would lie outside"),
        (lambda a: a.writestr("c:/outside.txt", b"x"), "would lie outside"),
        (link, "no plain file but a link"),
    ],
)
def test_unsafe_zip_writes_nothing(tmp_path, plant, said):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.txt", b"good")
        plant(archive)
    with pytest.raises(FetchError, match=said):
        unpack(tmp_path / "a.zip", tmp_path / "in" / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["a.zip"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_unsafe_tar_writes_nothing(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(FetchError, match="link or a device"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["a.tar"]


def test_damaged_archive_is_removed_and_named(tmp_path):
    content = bytearray(zipped({"a.txt": b"some text that is long enough to be damaged in its middle"}))
    content[40] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(FetchError, match="a.zip is damaged .* and was removed"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "a.zip").exists()
