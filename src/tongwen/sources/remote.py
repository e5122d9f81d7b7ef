"""Files from the net: URLs and datasets of the Hugging Face Hub, downloaded once.

    https://host/path/file          any file
    owner/name                      every data file of a dataset, where no such path exists here
    hf:owner/name[@revision][/path] the same, without doubt; a file, a folder or a pattern of it

A download that breaks off is taken up where it ended, if the server says that the file is still the
same. A file appears in the cache when it is whole, with its sha256 in a hidden file beside it, and
is checked against that each time it is used again. A dataset is fixed to the commit that it had; if
the Hub cannot be reached, to the one that was downloaded last.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from tongwen import __version__
from tongwen.errors import DataError
from tongwen.files import sha256_file, write_whole
from tongwen.sources.recognise import SUFFIXES

CACHE: Final = Path("~/.cache/tongwen")
HUB: Final = "https://huggingface.co"
TIMEOUT: Final = 30.0
"""Seconds without a byte after which a connection is given up."""
ATTEMPTS: Final = 4
PIECE: Final = 1 << 20
URL: Final = re.compile(r"(https?):/+(.+)")
DATASET: Final = re.compile(
    r"hf:(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<path>.+))?", re.ASCII
)
BARE: Final = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
NO_DATA: Final = ("README.md", "dataset_infos.json")
OFFLINE: Final = "check the network, or download the file elsewhere and give its path"


@dataclass(frozen=True)
class Fetched:
    """Files that lie in the cache now, where each came from, and what was left where it is."""

    origins: dict[Path, str] = field(default_factory=dict)
    ignored: tuple[Path, ...] = ()


def is_remote(source: str | Path) -> bool:
    """Whether a source that is no path here is a URL or a dataset."""
    text = str(source)
    if URL.fullmatch(text) or text.startswith("hf:"):
        return True
    path = Path(text)
    # In a folder that exists, a missing name is a slip of the pen and no dataset.
    return (
        BARE.fullmatch(text) is not None
        and path.suffix.lower() not in SUFFIXES
        and not path.parent.exists()
    )


def fetch_all(source: str | Path, cache: Path | None = None, hub: str = HUB) -> Fetched:
    """Download what a source stands for, as far as it is not there already."""
    folder = (cache or CACHE).expanduser()
    # A path has lost one of the two slashes of a URL.
    if match := URL.fullmatch(str(source)):
        url = f"{match[1]}://{match[2]}"
        parts = urlsplit(url)
        name = Path(unquote(parts.path)).name or "index.html"
        key = hashlib.sha256(url.encode()).hexdigest()[:16]
        path = folder / (parts.hostname or "host") / key / name
        fetch(url, path)
        return Fetched({path: url})
    text = str(source)
    match = DATASET.fullmatch(text if text.startswith("hf:") else f"hf:{text}")
    if match is None:
        raise DataError(
            f"{text} names no dataset", "write hf:owner/name, hf:owner/name@revision/path/file"
        )
    return _dataset(match["id"], match["revision"], match["path"], folder, hub)


def fetch(url: str, path: Path, sha256: str | None = None, token: str | None = None) -> None:
    """Download a URL to a path, or check that it is there as it was downloaded.

    `sha256` is what the server says the content must have. A DataError where there is no network,
    the server refuses, or the content is another.
    """
    with _locked(path):
        record = path.with_name(f".{path.name}.json")
        if path.exists() and record.exists():
            known = json.loads(record.read_text(encoding="utf-8"))["sha256"]
            if sha256_file(path) != known:
                raise DataError(
                    f"{path} is not what was downloaded: its sha256 has changed",
                    "remove it to download it again, or copy it to a place of your own",
                )
            return
        partial = path.with_name(f".{path.name}.partial")
        _download(url, partial, token)
        found = sha256_file(partial)
        if sha256 not in (None, found):
            partial.unlink()
            raise DataError(
                f"{url} arrived damaged: its sha256 is {found[:12]}…, not {str(sha256)[:12]}…",
                "run the command again",
            )
        facts = {"url": url, "sha256": found, "bytes": partial.stat().st_size}
        write_whole(record, json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
        partial.replace(path)
        _validator(partial).unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process after another download to a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _validator(partial: Path) -> Path:
    """Where the server's name for the version that is being downloaded is kept."""
    return partial.with_name(f"{partial.name}.version")


def _download(url: str, partial: Path, token: str | None) -> None:
    trouble = ""
    for _ in range(ATTEMPTS):
        try:
            if _attempt(url, partial, token):
                return
            trouble = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise _refused(url, error) from None
            trouble = f"the server answers {error.code}"
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            trouble = str(reason) or type(error).__name__
            if not partial.exists():
                break
    done = partial.stat().st_size if partial.exists() else 0
    kept = f"; {done:,} bytes are kept, and the next run goes on from there" if done else ""
    raise DataError(f"cannot download {url}: {trouble}{kept}", OFFLINE)


def _attempt(url: str, partial: Path, token: str | None) -> bool:
    """Download what is missing; whether the file is whole now."""
    version = _validator(partial)
    begun = partial.stat().st_size if partial.exists() and version.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": f"tongwen/{__version__}"})
    if token:
        # Not for the other host that the Hub sends us to.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    if begun:
        request.add_header("Range", f"bytes={begun}-")
        request.add_header("If-Range", version.read_text(encoding="utf-8"))
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        goes_on = answer.status == 206
        left = int(answer.headers.get("Content-Length") or -1)
        name = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if name and not name.startswith("W/"):
            version.write_text(name, encoding="utf-8")
        else:
            version.unlink(missing_ok=True)
        read = 0
        with partial.open("ab" if goes_on else "wb") as file:
            while piece := answer.read(PIECE):
                file.write(piece)
                read += len(piece)
            file.flush()
            os.fsync(file.fileno())
    return left in (-1, read)


def _refused(url: str, error: urllib.error.HTTPError) -> DataError:
    reasons: Mapping[int, tuple[str, str]] = {
        401: ("you are not allowed to read it", "log in with: hf auth login"),
        403: ("you are not allowed to read it", "accept its terms on its page, then log in"),
        404: ("it does not exist there", "check the address for a slip of the pen"),
    }
    reason, hint = reasons.get(error.code, (str(error.reason), OFFLINE))
    return DataError(f"cannot download {url}: {reason} ({error.code})", hint)


def _dataset(
    name: str, revision: str | None, wanted: str | None, folder: Path, hub: str
) -> Fetched:
    from huggingface_hub import get_token, hf_hub_url

    home = folder / "hf" / name
    commit, files = _listing(name, revision, home, hub)
    chosen = {file: sha for file, sha in files.items() if _is_wanted(file, wanted)}
    if not chosen:
        raise DataError(
            f"the dataset {name} has no data files" + (f" at {wanted}" if wanted else ""),
            f"it has: {', '.join(sorted(files)[:8])}",
        )
    origins: dict[Path, str] = {}
    for file, sha in sorted(chosen.items()):
        path = home / commit[:12] / file
        url = hf_hub_url(name, file, repo_type="dataset", revision=commit, endpoint=hub)
        fetch(url, path, sha, get_token())
        origins[path] = f"hf:{name}@{commit}/{file}"
    left = () if wanted else tuple(sorted(set(files) - set(chosen)))
    return Fetched(origins, tuple(Path(f"hf:{name}", file) for file in left))


def _is_about_the_net(error: Exception) -> bool:
    homes = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(homes & {"httpx", "httpx2", "requests"})


def _is_wanted(file: str, wanted: str | None) -> bool:
    if wanted is None:
        hidden = any(part.startswith(".") for part in file.split("/"))
        return file.lower().endswith(SUFFIXES) and file not in NO_DATA and not hidden
    return file == wanted or file.startswith(f"{wanted}/") or fnmatchcase(file, wanted)


def _listing(
    name: str, revision: str | None, home: Path, hub: str
) -> tuple[str, dict[str, str | None]]:
    """The commit of a dataset, and its files with their sha256 where the Hub knows it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    record = home / f".{(revision or 'main').replace('/', '_')}.json"
    try:
        info = HfApi(endpoint=hub).dataset_info(
            name, revision=revision, files_metadata=True, timeout=TIMEOUT
        )
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise DataError(
            f"the Hugging Face Hub does not give the dataset {name} ({status})",
            "check its name; one with conditions must be accepted on its page, then: hf auth login",
        ) from None
    except Exception as error:  # the Hub's library has changed its HTTP library before
        if not _is_about_the_net(error):
            raise
        if record.exists():
            known: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
            return known["commit"], known["files"]
        raise DataError(
            f"{name} is no path here, and the Hugging Face Hub cannot be reached: {error}",
            "check the path for a slip of the pen, or the network",
        ) from None
    files = {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings or ()}
    assert info.sha is not None, "the Hub names the commit"
    home.mkdir(parents=True, exist_ok=True)
    write_whole(record, json.dumps({"commit": info.sha, "files": files}, indent=2) + "\n")
    return info.sha, files
