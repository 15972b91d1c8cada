"""Fetch the VTAB-1K archive from a hub: resumed where it broke off, verified, put in place whole."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

from dtl_core.data.vtab import SPLITS
from dtl_core.files import sha256_of

from .. import paths
from ..json_files import write_json
from .packages import FetchError

VTAB_REPO = "XiN0919/VTAB-1k"  # the one that the README of V-PETL Bench leads to
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
RECORD = "fetched.json"
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


def fetch_vtab(
    repo: str = VTAB_REPO, revision: str = "main", target: str | Path | None = None, endpoint: str | None = None
) -> Path:
    """Download a dataset repository's archives, unpack them as a VTAB-1K folder, and return the folder.

    An interrupted download resumes where it stopped. When everything is there, a second call uses no network.

    Args:
        repo: "owner/name" of a dataset repository with .zip or .tar archives.
        revision: branch, tag or commit. Its commit is recorded in ``fetched.json``.
        target: the ``vtab-1k`` folder; by default the paper profile's.
        endpoint: another hub; by default ``HF_ENDPOINT``, else the public one.

    Raises:
        FetchError: no network, no such repository, a damaged or unsafe archive, too little room.
        FileExistsError: the folder holds something else.
    """
    target = Path(target or paths.vtab_dir("paper"))
    if target.is_dir() and any(target.iterdir()):
        record = _read_record(target)
        if record.get("repo") == repo and revision in (record.get("revision"), record.get("commit")):
            print(f"{target}: {repo} at {record['commit'][:12]} is there already")
            return target
        raise FileExistsError(
            f"{target} holds {record.get('repo', 'something that was not fetched from a hub')}"
            + (f" at {record['commit'][:12]}" if record else "")
            + ": move it away, or set DTL_DATA"
        )
    commit, work, archives = _download(repo, revision, target.parent, endpoint)
    fresh = work / "unpacked"
    shutil.rmtree(fresh, ignore_errors=True)  # of a call that was broken off
    for archive in archives:
        print(f"unpacking {archive.name}", flush=True)
        _unpack(archive, fresh)
    found = _task_roots(fresh)
    if len(found) != 1:
        raise FetchError(
            f"{repo} at {commit[:12]} is no VTAB-1K archive: it should hold one folder of task folders with "
            f"{', '.join(SPLITS.values())}, and {len(found) or 'none'} were found. Look into {fresh}, or choose another --repo"
        )
    facts = {path.name: {"sha256": sha256, "size": path.stat().st_size} for path, sha256 in archives.items()}
    write_json(found[0] / RECORD, {"repo": repo, "revision": revision, "commit": commit, "files": facts})
    if target.is_dir():
        target.rmdir()  # empty, as was seen above
    found[0].rename(target)
    shutil.rmtree(work)
    print(f"{target}: unpacked from {repo} at {commit[:12]}. Now check it: dtl data check vtab --root {target}")
    return target


def _read_record(folder: Path) -> dict:
    try:
        record = json.loads((folder / RECORD).read_text())
        return record if isinstance(record.get("commit"), str) else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _task_roots(folder: Path) -> list[Path]:
    """Return the folders whose sub-folders hold list files, without walking through the images below."""
    roots = set()
    for here, below, files in os.walk(folder):
        if set(files) & set(SPLITS.values()):
            roots.add(Path(here).parent)
            below.clear()
    return sorted(root for root in roots if root.is_relative_to(folder))


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an untrusted archive, of which nothing may land outside the folder: ``zipfile`` sees to that itself."""
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as file:
                file.extractall(folder)
            return
        with tarfile.open(archive) as file:
            members = file.getmembers()
            for member in members:  # by hand, since the filters of tarfile came with 3.11.4, and Debian 12 has 3.11.2
                path = PureWindowsPath(member.name)  # knows both kinds of slashes, and drives
                if path.anchor or ".." in path.parts or not (member.isreg() or member.isdir()):
                    raise FetchError(f"{archive.name} is not unpacked, for it is unsafe: {member.name}")
            file.extractall(folder, members, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    except DAMAGED as error:
        archive.unlink()
        raise FetchError(f"{archive.name} is damaged ({error}) and was removed: run the same command again") from error


def _download(repo: str, revision: str, parent: Path, endpoint: str | None) -> tuple[str, Path, dict[Path, str]]:
    """Return the commit, the folder ``parent/.fetch-<repo>-<commit>``, and the archives below it with their sha256."""
    try:
        from huggingface_hub import HfApi, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers
    except ImportError:
        raise FetchError(
            "huggingface_hub is not installed: run `pip install -e '.[hub]'`, or lay the archive's task folders "
            f"into {paths.vtab_dir('paper')} yourself"
        ) from None
    api = HfApi(endpoint=endpoint)
    try:
        info = api.dataset_info(repo, revision=revision, files_metadata=True)
        if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):  # it becomes a part of a path
            raise FetchError(f"{api.endpoint} answers {info.sha!r} where a commit should stand")
        files = [f for f in info.siblings or [] if f.rfilename.lower().endswith(ARCHIVES)]
        if not files:
            raise FetchError(
                f"{repo} at {info.sha[:12]} holds no archive ({', '.join(ARCHIVES)}): choose another --repo"
            )
        work, archives = parent / f".fetch-{repo.replace('/', '--')}-{info.sha[:12]}", {}
        (work / "archives").mkdir(parents=True, exist_ok=True)
        for file in files:
            name, path = file.rfilename, work / "archives" / file.rfilename.replace("/", "--")
            if not path.exists():
                free = shutil.disk_usage(work).free
                if (file.size or 0) > free:
                    raise FetchError(
                        f"{name} needs {file.size / 1e9:.1f} GB in {work} and {free / 1e9:.1f} GB are free"
                    )
                url = hf_hub_url(repo, name, repo_type="dataset", revision=info.sha, endpoint=api.endpoint)
                part = path.with_name(path.name + ".part")
                with open(part, "ab") as written:  # what an earlier call brought stays; the client itself begins again
                    if file.size is not None and written.tell() > file.size:
                        written.seek(written.truncate(0))
                    options = {"resume_size": written.tell(), "expected_size": file.size, "displayed_filename": name}
                    http_get(url, written, headers=build_hf_headers(), **options)
                if file.lfs and sha256_of(part) != file.lfs.sha256:
                    part.unlink()
                    raise FetchError(
                        f"{name} of {repo} came damaged (its sha256 is another): run the same command again"
                    )
                part.rename(path)
            archives[path] = file.lfs.sha256 if file.lfs else sha256_of(path)
        return info.sha, work, archives
    except FetchError:
        raise
    except Exception as error:  # the client's HTTP library, and so its errors, differ between its versions
        message = next((line.strip() for line in str(error).splitlines() if line.strip()), "nothing")
        raise FetchError(
            f"could not fetch the dataset {repo} at {revision} from {api.endpoint}. It said: "
            f"{type(error).__name__}: {message}\nCheck the network connection, the names and your access, and run the same "
            f"command again: what is there already stays. Without a network, lay the archive's task folders into "
            f"{paths.vtab_dir('paper')} and run `dtl data check vtab`"
        ) from error
