"""Downloads: once, whole, checked; taken up where they broke off; honest where there is no net."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from tongwen.errors import DataError
from tongwen.sources import expand, iter_rows, remote

DATA = "".join(json.dumps({"text": f"line {number}"}) + "\n" for number in range(5000)).encode()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Serves `files`; connections are cut as `cuts` says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/a.jsonl": DATA}
        self.cuts: list[int] = []
        """Bytes after which each of the next answers breaks off."""
        self.asked: list[tuple[str, str | None]] = []
        self.tags = True
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """A file server with ranges."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = cast(Server, self.server)
        path = self.path.partition("?")[0]
        server.asked.append((path, self.headers["Range"]))
        data = server.files.get(path)
        if data is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        start = 0
        if self.headers["Range"] and self.headers["If-Range"] == tag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if server.tags:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(data)
        self.wfile.write(data[start : start + cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/a.jsonl"
    for source in (url, Path(url)):
        found = expand([source], cache=tmp_path)
        [path] = found.files
        assert path.read_bytes() == DATA
        assert found.origins == {path: url}
    assert len(server.asked) == 1
    assert len(list(iter_rows([path]))) == 5000
    record = json.loads((path.parent / ".a.jsonl.json").read_text(encoding="utf-8"))
    assert record == {"url": url, "sha256": hashlib.sha256(DATA).hexdigest(), "bytes": len(DATA)}
    assert not list(tmp_path.rglob("*.partial*"))


def test_a_cut_connection_is_taken_up_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 2000]
    [path] = expand([f"{server.url}/a.jsonl"], cache=tmp_path).files
    assert path.read_bytes() == DATA
    assert [begin for _, begin in server.asked] == [None, "bytes=1000-", "bytes=3000-"]


def test_the_next_run_goes_on_from_there(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(DataError, match="1,000 bytes are kept, and the next run goes on") as caught:
        expand([f"{server.url}/a.jsonl"], cache=tmp_path)
    assert caught.value.hint
    assert not list(tmp_path.rglob("a.jsonl"))
    server.asked.clear()
    [path] = expand([f"{server.url}/a.jsonl"], cache=tmp_path).files
    assert path.read_bytes() == DATA
    assert server.asked == [("/a.jsonl", "bytes=1000-")]


@pytest.mark.parametrize("tags", [True, False])
def test_a_file_that_changed_meanwhile_is_downloaded_anew(
    server: Server, tmp_path: Path, tags: bool
) -> None:
    server.tags = tags
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(DataError):
        expand([f"{server.url}/a.jsonl"], cache=tmp_path)
    server.files["/a.jsonl"] = other = DATA.replace(b"line", b"new line")
    [path] = expand([f"{server.url}/a.jsonl"], cache=tmp_path).files
    assert path.read_bytes() == other


def test_a_file_in_the_cache_that_has_changed_is_refused(server: Server, tmp_path: Path) -> None:
    [path] = expand([f"{server.url}/a.jsonl"], cache=tmp_path).files
    path.write_bytes(DATA + b"{}\n")
    with pytest.raises(DataError, match="is not what was downloaded") as caught:
        expand([f"{server.url}/a.jsonl"], cache=tmp_path)
    assert caught.value.hint == "remove it to download it again, or copy it to a place of your own"
    path.unlink()
    assert expand([f"{server.url}/a.jsonl"], cache=tmp_path).files[0].read_bytes() == DATA


def test_what_the_server_does_not_have(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it does not exist there \\(404\\)"):
        expand([f"{server.url}/b.jsonl"], cache=tmp_path)


def test_no_network_is_said_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot download http://127\.0\.0\.1:9/a\.jsonl"
    ) as caught:
        expand(["http://127.0.0.1:9/a.jsonl"], cache=tmp_path)
    assert caught.value.hint == remote.OFFLINE
    with pytest.raises(DataError, match="is no path here, and the Hugging Face Hub cannot be"):
        remote.fetch_all("owner/name", tmp_path, "http://127.0.0.1:9")


def test_what_is_here_is_never_looked_for_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").write_text('{"text": "here"}\n', encoding="utf-8")
    assert expand(["owner/name"]).origins == {}
    for slip in ("owner/nmae", "data/train.jsonl"):
        with pytest.raises(DataError, match="does not exist"):
            expand([slip])


@pytest.fixture
def hub(server: Server) -> Server:
    """The server, with a dataset as the Hub shows it."""
    files = {
        "README.md": b"# card",
        "data/train.jsonl": DATA,
        "data/test.jsonl": b'{"text": "test"}\n',
        "code.py": b"print()",
    }
    home = f"/datasets/owner/name/resolve/{COMMIT}/"
    server.files |= {home + name: data for name, data in files.items()}
    siblings = [
        {
            "rfilename": name,
            "size": len(data),
            "lfs": {
                "sha256": hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "pointerSize": 1,
            },
        }
        for name, data in files.items()
    ]
    info = {"id": "owner/name", "sha": COMMIT, "siblings": siblings, "private": False}
    server.files["/api/datasets/owner/name"] = json.dumps(info | {"tags": []}).encode()
    return server


def test_a_dataset_of_the_hub(hub: Server, tmp_path: Path) -> None:
    fetched = remote.fetch_all("owner/name", tmp_path, hub.url)
    assert list(fetched.origins.values()) == [
        f"hf:owner/name@{COMMIT}/data/test.jsonl",
        f"hf:owner/name@{COMMIT}/data/train.jsonl",
    ]
    assert list(fetched.origins)[1].read_bytes() == DATA
    assert [path.name for path in fetched.ignored] == ["README.md", "code.py"]


@pytest.mark.parametrize("wanted", ["data/test.jsonl", "data/te*", "data"])
def test_a_part_of_a_dataset(hub: Server, tmp_path: Path, wanted: str) -> None:
    fetched = remote.fetch_all(f"hf:owner/name/{wanted}", tmp_path, hub.url)
    assert len(fetched.origins) == (2 if wanted == "data" else 1)
    with pytest.raises(DataError, match="has no data files at nothing"):
        remote.fetch_all("hf:owner/name/nothing", tmp_path, hub.url)


def test_a_dataset_stays_as_it_was_without_a_network(hub: Server, tmp_path: Path) -> None:
    first = remote.fetch_all("hf:owner/name", tmp_path, hub.url)
    assert remote.fetch_all("hf:owner/name", tmp_path, "http://127.0.0.1:9") == first


def test_a_file_that_arrives_damaged_is_refused(hub: Server, tmp_path: Path) -> None:
    hub.files[f"/datasets/owner/name/resolve/{COMMIT}/data/test.jsonl"] = b'{"text": "TEST"}\n'
    with pytest.raises(DataError, match="arrived damaged"):
        remote.fetch_all("hf:owner/name/data/test.jsonl", tmp_path, hub.url)
    assert not list(tmp_path.rglob("test.jsonl"))


def test_a_dataset_that_does_not_exist(hub: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not give the dataset owner/other \\(404\\)"):
        remote.fetch_all("hf:owner/other", tmp_path, hub.url)
    with pytest.raises(DataError, match="names no dataset"):
        remote.fetch_all("hf:owner", tmp_path, hub.url)
