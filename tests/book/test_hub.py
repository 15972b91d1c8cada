"""Fetching the VTAB-1K archive through huggingface_hub, from a small hub of our own on the loopback interface."""

import functools
import hashlib
import http.server
import io
import json
import stat
import tarfile
import threading
import zipfile
from itertools import product
from pathlib import Path

import pytest
from PIL import Image
from stand_ins import put, zipped

from dtl_book import cli, paths
from dtl_book.fetch.hub import RECORD, _unpack, fetch_vtab
from dtl_book.fetch.packages import FetchError
from dtl_core.data import VTAB1k

hub = pytest.importorskip("huggingface_hub", reason="pip install -e '.[hub]'")
REPO, COMMIT = "someone/VTAB-1k", "0123456789abcdef0123456789abcdef01234567"


def tasks(*names):
    """The files of a small VTAB-1K folder, one picture a split."""
    files = {}
    for name, (value, split) in product(names, enumerate(("train800", "val200", "train800val200", "test"))):
        picture = io.BytesIO()
        Image.new("RGB", (4, 4), (10 * value, 0, 0)).save(picture, "PNG")
        files[f"vtab-1k/{name}/images/{split}/a b {value}.png"] = picture.getvalue()
        files[f"vtab-1k/{name}/{split}.txt"] = f"images/{split}/a b {value}.png {value % 2}\n".encode()
    return files


def stop(*_):
    raise KeyboardInterrupt


class Hub(http.server.BaseHTTPRequestHandler):
    """Speaks what `dataset_info` and a download ask for. A file's sha256 is its etag, as for large files on the hub."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def facts(self, name):
        body = self.server.shop["files"][name]
        sha256 = self.server.shop["etags"].get(name) or hashlib.sha256(body).hexdigest()
        return {"size": len(body), "lfs": {"sha256": sha256, "size": len(body), "pointerSize": 130}}

    def send(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": length or len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        shop, begin = self.server.shop, self.headers.get("Range")
        shop["asked"].append((self.command, self.path, begin))
        if self.path.split("?")[0] == f"/api/datasets/{REPO}/revision/{shop['revision']}":
            siblings = [{"rfilename": name, **self.facts(name)} for name in shop["files"]]
            body = json.dumps({"id": REPO, "sha": shop["commit"], "siblings": siblings}).encode()
            return self.send(200, body, **{"Content-Type": "application/json"})
        name = self.path.removeprefix(f"/datasets/{REPO}/resolve/{COMMIT}/")
        if name not in shop["files"]:
            return self.send(404, **{"X-Error-Code": "RevisionNotFound" if REPO in self.path else "RepoNotFound"})
        body = shop["files"][name]
        headers = {"ETag": f'"{self.facts(name)["lfs"]["sha256"]}"', "X-Repo-Commit": COMMIT}
        if begin:
            start = int(begin.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return self.send(206, body[start:], **headers)
        if self.command == "GET" and shop["breaks"]:
            shop["breaks"] -= 1
            self.close_connection = True
            return self.send(200, body[: len(body) // 2], length=len(body))
        return self.send(200, body, **headers)

    do_HEAD = do_GET


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The hub's shelf: files by name, what was asked, and the address that is spoken to."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DTL_DATA", str(tmp_path / "data"))
    hub.close_session()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    files = {"README.md": b"a card", "vtab-1k.zip": zipped(tasks("cifar", "svhn"))}
    server.shop = {"files": files, "etags": {}, "asked": [], "breaks": 0, "revision": "main", "commit": COMMIT}
    server.shop["url"] = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server.shop
    server.shutdown()
    server.server_close()
    hub.close_session()


def get(shop, **options):
    return fetch_vtab(REPO, endpoint=shop["url"], **options)


def downloads(shop):
    asked = ((path, begin) for command, path, begin in shop["asked"] if command == "GET")
    return [(path.rsplit("/", 1)[1], begin) for path, begin in asked if "resolve" in path]


def test_archive_becomes_a_folder_that_is_read(shop, capsys):
    folder = get(shop)
    assert folder == paths.vtab_dir("paper") == paths.data_dir() / "paper" / "vtab-1k"
    data = VTAB1k(folder, "cifar_100", "test")
    assert data.samples == [(folder / "cifar/images/test/a b 3.png", 1)] and data[0][0].getpixel((0, 0)) == (30, 0, 0)
    record = json.loads((folder / RECORD).read_text())
    assert (record["repo"], record["revision"], record["commit"]) == (REPO, "main", COMMIT)
    assert record["files"]["vtab-1k.zip"]["sha256"] == hashlib.sha256(shop["files"]["vtab-1k.zip"]).hexdigest()
    assert f"dtl data check vtab --root {folder}" in capsys.readouterr().out
    assert downloads(shop) == [("vtab-1k.zip", None)]  # the card is not needed
    assert [p.name for p in folder.parent.iterdir()] == ["vtab-1k"]  # nothing is left beside it
    shop["asked"].clear()
    assert get(shop) == get(shop, revision=COMMIT) == folder and shop["asked"] == [], "a second call asks no network"


def test_what_is_there_is_not_overwritten(shop, tmp_path):
    get(shop)
    with pytest.raises(FileExistsError, match=rf"holds {REPO} at 0123456789ab: move it away"):
        get(shop, revision="other")
    (tmp_path / "mine" / "cifar").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="something that was not fetched from a hub"):
        get(shop, target=tmp_path / "mine")


def test_broken_download_goes_on_where_it_stopped(shop, monkeypatch):
    archive = shop["files"]["vtab-1k.zip"]
    shop["breaks"] = 1
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 16)
    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, FetchError)):
        patch.setattr("time.sleep", stop)  # a kill where newer clients would try again by themselves
        get(shop)
    (part,) = paths.data_dir().rglob("vtab-1k.zip.part")
    got = part.read_bytes()
    assert archive.startswith(got) and len(archive) // 2 - 16 < len(got) <= len(archive) // 2
    get(shop)
    assert downloads(shop) == [("vtab-1k.zip", None), ("vtab-1k.zip", f"bytes={len(got)}-")]
    assert len(VTAB1k(paths.vtab_dir("paper"), "svhn", "train800")) == 1


def test_a_part_that_is_too_long_is_fetched_from_the_start(shop):
    work = paths.data_dir() / "paper" / f".fetch-someone--VTAB-1k-{COMMIT[:12]}"
    put(work / "archives/vtab-1k.zip.part", shop["files"]["vtab-1k.zip"] + b"of another file")
    get(shop)
    assert downloads(shop) == [("vtab-1k.zip", None)]
    assert len(VTAB1k(paths.vtab_dir("paper"), "svhn", "train800")) == 1


def test_one_archive_a_task_and_tar(shop):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in tasks("dtd").items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    other = zipped(tasks("svhn") | {"__MACOSX/x": b"x"})
    shop["files"] = {"parts/dtd.tar.gz": content.getvalue(), "parts/svhn.zip": other}
    folder = get(shop)
    assert sorted(p.name for p in folder.iterdir()) == ["dtd", RECORD, "svhn"]


def test_damage_on_the_way_is_seen_and_fetched_again(shop):
    shop["etags"]["vtab-1k.zip"] = "0" * 64
    with pytest.raises(FetchError, match="came damaged"):
        get(shop)
    shop["etags"].clear()
    assert get(shop).is_dir() and len(downloads(shop)) == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": b""}, "holds no archive"),
        ({"a.zip": zipped({"images/a.png": b""})}, "is no VTAB-1K archive: .* none were found"),
        ({"a.zip": zipped({"one/cifar/test.txt": b"", "two/svhn/test.txt": b""})}, "and 2 were found"),
    ],
)
def test_repositories_of_another_kind_are_refused(shop, files, said):
    shop["files"] = files
    with pytest.raises(FetchError, match=said):
        get(shop)
    assert not paths.vtab_dir("paper").exists()


def test_a_commit_that_is_none_and_too_little_room_are_refused(shop, monkeypatch):
    shop["commit"] = "../../../../x"
    with pytest.raises(FetchError, match="where a commit should stand"):
        get(shop)
    shop["commit"] = COMMIT
    monkeypatch.setattr("dtl_book.fetch.hub.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(FetchError, match="GB are free"):
        get(shop)


@pytest.mark.parametrize("case", ["no network", "no revision", "offline"])
def test_trouble_is_one_plain_message(shop, case, monkeypatch, capsys):
    url, revision = shop["url"], "main"
    if case == "no network":
        url = "http://127.0.0.1:9"  # the discard port: nobody listens
    elif case == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        hub.close_session()
    else:
        revision = "v9"
    monkeypatch.setattr("dtl_book.fetch.hub.fetch_vtab", functools.partial(fetch_vtab, endpoint=url))
    with pytest.raises(SystemExit) as end:
        cli.main(["data", "fetch", "vtab", "--source", "hf", "--repo", REPO, "--revision", revision])
    error = capsys.readouterr().err
    assert end.value.code == 1 and error.startswith(f"dtl: could not fetch the dataset {REPO} at {revision}")
    assert "Traceback" not in error and "Without a network" in error and len(error.splitlines()) == 2


def test_command_fetches_and_refuses_options_of_the_other_kind(shop, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("dtl_book.fetch.fetch", lambda without: asked.append(without))
    cli.main(["data", "fetch"])
    cli.main(["data", "fetch", "--without", "elpv"])
    assert asked == [(), ("elpv",)], "without `vtab` it fetches the packages"
    monkeypatch.setattr("dtl_book.fetch.hub.fetch_vtab", functools.partial(fetch_vtab, endpoint=shop["url"]))
    cli.main(["data", "fetch", "vtab", "--repo", REPO])
    assert "unpacked from" in capsys.readouterr().out
    for words in (["vtab", "--without", "elpv"], ["--repo", REPO]):
        with pytest.raises(SystemExit, match="^1$"):
            cli.main(["data", "fetch", *words])


def test_a_broken_unpacking_leaves_nothing_behind(shop, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.copyfileobj", stop)
        get(shop)
    assert not paths.vtab_dir("paper").exists()
    assert len(VTAB1k(get(shop), "svhn", "train800")) == 1


@pytest.mark.parametrize("name", ["../../outside.txt", "/tmp/outside.txt", "a/..\\..\\outside.txt", "cifar/link"])
def test_a_zip_writes_nothing_outside_and_no_link(tmp_path, name):
    member = zipfile.ZipInfo(name)
    if "link" in name:
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    _unpack(tmp_path / "a.zip", tmp_path / "in" / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip", "in"}
    assert {p.name for p in (tmp_path / "in").iterdir()} == {"out"} and not Path("/tmp/outside.txt").exists()
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.REGTYPE, "../x"),
        (tarfile.REGTYPE, "a\\..\\..\\x"),
        (tarfile.REGTYPE, "/x"),
    ],
)
def test_an_unsafe_tar_is_refused(tmp_path, kind, name):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(FetchError, match="a.tar is not unpacked, for it is unsafe"):
        _unpack(tmp_path / "a.tar", tmp_path / "out")
    assert [p.name for p in tmp_path.rglob("*") if not p.is_dir()] == ["a.tar"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_damaged_archive_is_removed_and_named(tmp_path, name):
    content = bytearray(zipped({"a.txt": b"some text that is long enough to be damaged in its middle"}))
    content[40] ^= 0xFF
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FetchError, match=f"(?s){name} is damaged .* and was removed"):
        _unpack(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / name).exists()
