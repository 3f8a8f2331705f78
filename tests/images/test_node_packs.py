"""comfy-node-install and restore-snapshot, with real git repositories and a stand-in registry."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from node_packs import check
from node_packs.packages import changes
from node_packs.snapshot import packages, read, sources
from node_packs.sources import GitSource, NodeError, RegistrySource, parse

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
Restore = Callable[[str], subprocess.CompletedProcess[str]]


def fake_comfyui(comfyui: Path, classes: Sequence[str] = (), log: str = "") -> None:
    """As much of ComfyUI as says which node classes there are, and what it logs."""
    (comfyui / "main.py").write_text(
        f"""
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass

    def do_GET(self):
        print({log!r}, flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict.fromkeys({list(classes)!r})).encode())

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
    )


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    folder = tmp_path / "comfyui"
    (folder / "custom_nodes").mkdir(parents=True)
    fake_comfyui(folder)
    return folder


@pytest.fixture
def environ(comfyui: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "src"),
        "COMFYUI_PATH": str(comfyui),
        "COMFY_REGISTRY_URL": "http://127.0.0.1:9",
        "HOME": str(tmp_path),
        "PIP_TARGET": str(tmp_path / "site-packages"),
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    def run(module: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"node_packs.{module}", *arguments],
            env=environ | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    result = subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments],  # wherever it is
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A custom node with two commits; the first one is tagged v1."""
    folder = tmp_path / "upstream" / "ComfyUI-Example.git"
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for number in ("1", "2"):
        (folder / "__init__.py").write_text(f"VERSION = {number}\n")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", number)
        if number == "1":
            git(folder, "tag", "v1")
    return folder


def add(repository: Path, **files: str) -> None:
    for name, text in files.items():
        (repository / name.replace("_", ".")).write_text(text)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "more")


def wheel(folder: Path, name: str) -> Path:
    """A Python package that can be installed without an index."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


class Registry(ThreadingHTTPServer):
    """Answers by path and query."""

    answers: dict[str, bytes]


class RegistryHandler(BaseHTTPRequestHandler):
    """Gives an answer, or 404."""

    server: Registry

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:  # noqa: D102  # http.server's
        body = self.server.answers.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"{}")


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry(("127.0.0.1", 0), RegistryHandler)
    server.answers = {}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def address(server: Registry) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("comfyui-kjnodes", RegistrySource("comfyui-kjnodes")),
        ("comfyui-kjnodes@1.2.3", RegistrySource("comfyui-kjnodes", "1.2.3")),
        ("https://example.com/a/Node.git", GitSource("https://example.com/a/Node.git")),
        ("https://example.com/a/Node@v1", GitSource("https://example.com/a/Node", "v1")),
        ("https://me@example.com/a/Node", GitSource("https://me@example.com/a/Node")),
        ("git@example.com:a/Node.git", GitSource("git@example.com:a/Node.git")),
        ("git@example.com:a/Node.git@v1", GitSource("git@example.com:a/Node.git", "v1")),
    ],
)
def test_a_name_is_a_registry_id_or_a_git_address(
    name: str, source: GitSource | RegistrySource
) -> None:
    assert parse(name) == source


def test_a_repository_is_installed_at_its_newest_commit_and_compiled(
    run: Run, repository: Path, comfyui: Path
) -> None:
    result = run("install", f"file://{repository}")
    assert result.returncode == 0, result.stderr
    installed = comfyui / "custom_nodes" / "ComfyUI-Example"
    assert (installed / "__init__.py").read_text() == "VERSION = 2\n"
    assert list((installed / "__pycache__").glob("*.pyc"))
    assert "Installed ComfyUI-Example" in result.stdout


def test_a_revision_is_kept_and_an_installed_node_is_replaced(
    run: Run, repository: Path, comfyui: Path
) -> None:
    assert run("install", f"file://{repository}").returncode == 0
    assert run("install", f"file://{repository}@v1").returncode == 0
    installed = comfyui / "custom_nodes" / "ComfyUI-Example" / "__init__.py"
    assert installed.read_text() == "VERSION = 1\n"
    assert [path.name for path in (comfyui / "custom_nodes").iterdir()] == ["ComfyUI-Example"]


def test_files_of_other_revisions_are_not_installed(
    run: Run, repository: Path, comfyui: Path
) -> None:
    (repository / "demo.mp4").write_bytes(os.urandom(1_000_000))
    add(repository, more_py="")
    (repository / "demo.mp4").unlink()
    add(repository, still_more_py="")
    git(repository, "config", "uploadpack.allowFilter", "true")  # as GitHub and GitLab have it
    assert run("install", f"file://{repository}@v1").returncode == 0
    installed = comfyui / "custom_nodes" / "ComfyUI-Example"
    assert (installed / "__init__.py").read_text() == "VERSION = 1\n"
    size = sum(path.stat().st_size for path in (installed / ".git").rglob("*") if path.is_file())
    assert size < 500_000


def test_packages_are_installed_and_then_the_node_s_script_is_run(
    run: Run, repository: Path, comfyui: Path, tmp_path: Path
) -> None:
    add(
        repository,
        requirements_txt=f"{wheel(tmp_path, 'example_package')}\n",
        install_py="open('installed.txt', 'w').close()\n",
    )
    result = run("install", f"file://{repository}")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "site-packages" / "example_package.py").exists()
    assert (comfyui / "custom_nodes" / "ComfyUI-Example" / "installed.txt").exists()


def test_packages_that_comfyui_or_another_node_forbids_are_refused(
    run: Run, repository: Path, comfyui: Path, tmp_path: Path
) -> None:
    wheel(tmp_path, "example_package")
    add(repository, requirements_txt="example-package==1.0\n")
    own = tmp_path / "comfyui.txt"
    own.write_text("example-package>=2\n")
    environ = {"PIP_FIND_LINKS": str(tmp_path)}
    refused = run("install", f"file://{repository}", PIP_CONSTRAINT=str(own), **environ)
    assert refused.returncode == 1
    assert "its Python packages failed" in refused.stderr
    other = comfyui / "custom_nodes" / "other" / "requirements.txt"
    other.parent.mkdir()
    other.write_text("example-package!=1.0\n")
    assert run("install", f"file://{repository}", **environ).returncode == 1
    other.unlink()
    assert run("install", f"file://{repository}", **environ).returncode == 0
    assert (tmp_path / "site-packages" / "example_package.py").exists()


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"requirements_txt": "no-such-package==1\n"}, "its Python packages failed with exit code"),
        ({"install_py": "raise SystemExit(3)\n"}, "install.py failed with exit code 3"),
    ],
)
def test_a_failure_stops_the_build_and_leaves_nothing_behind(
    run: Run, repository: Path, comfyui: Path, files: dict[str, str], sentence: str
) -> None:
    add(repository, **files)
    result = run("install", f"file://{repository}", "never-reached")
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "never-reached" not in result.stderr
    assert list((comfyui / "custom_nodes").iterdir()) == []


def test_a_revision_that_is_not_there_is_named(run: Run, repository: Path, comfyui: Path) -> None:
    result = run("install", f"file://{repository}@nope")
    assert result.returncode == 1
    assert "at nope: error: pathspec" in result.stderr
    assert list((comfyui / "custom_nodes").iterdir()) == []


def test_a_registry_node_is_unpacked_under_its_id(
    run: Run, registry: Registry, comfyui: Path
) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("__init__.py", "")
    url = address(registry)
    registry.answers = {
        "/nodes/example/install?version=1.0": json.dumps({"downloadUrl": f"{url}/x.zip"}).encode(),
        "/x.zip": archive.getvalue(),
    }
    result = run("install", "example@1.0", COMFY_REGISTRY_URL=url)
    assert result.returncode == 0, result.stderr
    assert (comfyui / "custom_nodes" / "example" / "__init__.py").exists()


def test_a_nightly_registry_node_comes_from_its_repository(
    run: Run, registry: Registry, repository: Path, comfyui: Path
) -> None:
    body = {"repository": f"file://{repository}"}
    registry.answers = {"/nodes/example": json.dumps(body).encode()}
    result = run("install", "example@nightly", COMFY_REGISTRY_URL=address(registry))
    assert result.returncode == 0, result.stderr
    assert (comfyui / "custom_nodes" / "example" / "__init__.py").exists()


def test_what_the_registry_does_not_have_is_an_error(run: Run, registry: Registry) -> None:
    result = run("install", "nope", COMFY_REGISTRY_URL=address(registry))
    assert result.returncode == 1
    assert "error: nope: the registry has no such node or version" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_registry_that_is_away_is_an_error(run: Run) -> None:
    result = run("install", "example")
    assert result.returncode == 1
    assert "cannot be reached" in result.stderr


SNAPSHOT: dict[str, Any] = {
    "comfyui": "0" * 40,
    "cnr_custom_nodes": {"example": "1.0"},
    "git_custom_nodes": {
        "https://example.com/a/On": {"hash": "abc", "disabled": False},
        "https://example.com/a/Off": {"hash": "abc", "disabled": True},
    },
    "file_custom_nodes": [{"filename": "mine.py", "disabled": False}],
    "pips": {"torch==2.7.0+cu126": "", "Example_Package==1.0": ""},
}


def test_a_snapshot_s_disabled_nodes_are_left_out() -> None:
    assert sources(read(json.dumps(SNAPSHOT))) == [
        RegistrySource("example", "1.0"),
        GitSource("https://example.com/a/On", "abc"),
    ]


def test_a_snapshot_does_not_change_pytorch() -> None:
    image = "torch==2.14.1\nnumpy>=1.25.0\n"
    assert packages(SNAPSHOT, image) == ["Example_Package==1.0"]
    assert packages(SNAPSHOT, image + "example.package==2.0\n") == []


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"custom_nodes": {"cnr_custom_nodes": {"example": "1.0"}}, "pips": None}),
        "custom_nodes:\n  cnr_custom_nodes: {example: '1.0'}\npips: null\n",
        "cnr_custom_nodes: {example: '1.0'}\nfile_custom_nodes: []\n",
    ],
)
def test_every_form_of_the_manager_s_snapshots_is_read(text: str) -> None:
    snapshot = read(text)
    assert sources(snapshot) == [RegistrySource("example", "1.0")]
    assert packages(snapshot, "") == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty, or no object"),
        ("[]", "is empty, or no object"),
        ("{", "neither JSON nor YAML"),
        ('{"comfyui": "abc"}', "names no custom nodes"),
        ('{"cnr_custom_nodes": ["example"]}', "cnr_custom_nodes must be an object"),
        ('{"git_custom_nodes": {"https://example.com/a/On": "abc"}}', "an object with a hash"),
    ],
)
def test_what_is_no_snapshot_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(NodeError, match=sentence):
        sources(read(text))


def test_a_snapshot_s_package_from_an_address_keeps_it() -> None:
    snapshot = read(json.dumps({"pips": {"here==1": "", "there": "git+https://example.com/a/b"}}))
    assert packages(snapshot, "") == ["here==1", "there @ git+https://example.com/a/b"]


@pytest.mark.parametrize(
    "name",
    [
        "https://example.com/..",
        "https://example.com/a/.",
        "https://example.com/a/.git",
        "https://example.com/",
        "https://example.com/a/Node@--upload-pack=x",
        "..",
        "-x",
        "owner/name",
        ".",
    ],
)
def test_a_crafted_name_touches_no_other_folder(run: Run, comfyui: Path, name: str) -> None:
    kept = comfyui / "custom_nodes" / "kept" / "__init__.py"
    kept.parent.mkdir()
    kept.write_text("")
    result = run("install", "--", name)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert kept.exists()
    assert (comfyui / "main.py").exists()


def test_what_changed_is_said() -> None:
    before = {"numpy": "2.5.5", "pillow": "12.0", "same": "1"}
    after = {"numpy": "1.26.4", "same": "1", "new": "1"}
    assert list(changes(before, after)) == [
        "changed: numpy 2.5.5 to 1.26.4",
        "removed: pillow 12.0",
    ]


def test_a_snapshot_is_restored_and_files_of_one_s_own_are_named(
    run: Run, repository: Path, comfyui: Path, tmp_path: Path
) -> None:
    commit = git(repository, "rev-parse", "v1")
    snapshot = tmp_path / "snapshot.json"
    nodes = {f"file://{repository}": {"hash": commit, "disabled": False}}
    mine = [{"filename": "mine.py", "disabled": False}]
    snapshot.write_text(json.dumps({"git_custom_nodes": nodes, "file_custom_nodes": mine}))
    result = run("snapshot", str(snapshot))
    assert result.returncode == 0, result.stderr
    installed = comfyui / "custom_nodes" / "ComfyUI-Example" / "__init__.py"
    assert installed.read_text() == "VERSION = 1\n"
    assert "note: mine.py is a file of your own: copy it to " in result.stdout


@pytest.mark.parametrize("text", ["{", ""])
def test_a_snapshot_that_is_no_json_is_an_error(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "snapshot.json").write_text(text)
    result = run("snapshot", str(tmp_path / "snapshot.json"))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")


def test_a_custom_node_that_cannot_be_imported_fails_the_build(
    run: Run, repository: Path, comfyui: Path
) -> None:
    log = "   0.1 seconds (IMPORT FAILED): /comfyui/custom_nodes/ComfyUI-Example"
    fake_comfyui(comfyui, log=log)
    result = run("install", f"file://{repository}")
    assert result.returncode == 1
    assert "error: ComfyUI-Example: ComfyUI cannot import it; why is above" in result.stderr
    assert run("install", "--no-check", f"file://{repository}").returncode == 0


NOT_DESCRIBED = """[ERROR] An error occurred while retrieving information for the 'Odd' node.
Traceback (most recent call last):
  File "/comfyui/server.py", line 636, in get_object_info
    out[x] = node_info(x)
             ^^^^^^^^^^^^
{raised}
"""


@pytest.fixture
def restore(run: Run, tmp_path: Path) -> Restore:
    """Restores an empty snapshot, with the node classes that are expected."""
    snapshot, classes = tmp_path / "snapshot.json", tmp_path / "classes.txt"
    snapshot.write_text('{"pips": {}}')

    def restore_expecting(expected: str) -> subprocess.CompletedProcess[str]:
        classes.write_text(expected)
        return run("snapshot", str(snapshot), "--expect", str(classes))

    return restore_expecting


@pytest.mark.parametrize(
    "raised", ["AttributeError: no such thing", "AssertionError", "a.b.OwnError: 'unet_gguf'"]
)
def test_a_class_that_cannot_say_its_inputs_fails_the_build(
    restore: Restore, comfyui: Path, raised: str
) -> None:
    fake_comfyui(comfyui, ["Loaded"], log=NOT_DESCRIBED.format(raised=raised))
    result = restore("Loaded")
    assert result.returncode == 1
    assert "error: Odd: ComfyUI cannot ask it for its inputs" in result.stderr


def test_a_class_for_another_custom_node_s_models_fails_the_build_only_where_it_is_expected(
    restore: Restore, comfyui: Path
) -> None:
    fake_comfyui(comfyui, ["Loaded"], log=NOT_DESCRIBED.format(raised="KeyError: 'unet_gguf'"))
    result = restore("Loaded")
    assert result.returncode == 0, result.stderr
    assert "warning: Odd: no workflow can use it" in result.stderr
    assert restore("Loaded\nOdd").returncode == 1


def test_node_classes_that_did_not_load_fail_the_build(restore: Restore, comfyui: Path) -> None:
    fake_comfyui(comfyui, ["Loaded"])
    result = restore("Loaded\nBroken")
    assert result.returncode == 1
    assert "error: ComfyUI has no node classes Broken: why" in result.stderr
    assert restore("Loaded").returncode == 0


def test_a_comfyui_that_never_answers_fails_the_build(
    comfyui: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (comfyui / "main.py").write_text(
        "import socket, sys, time\n"
        "port = int(sys.argv[sys.argv.index('--port') + 1])\n"
        "listener = socket.create_server(('127.0.0.1', port))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui))
    monkeypatch.setattr(check, "START_TIMEOUT_S", 3)
    with pytest.raises(NodeError, match="ComfyUI did not start within 3 s"):
        check.require_loaded()


def test_a_comfyui_that_does_not_start_fails_the_build(
    run: Run, comfyui: Path, tmp_path: Path
) -> None:
    (tmp_path / "snapshot.json").write_text('{"pips": {}}')
    (tmp_path / "classes.txt").write_text("Any")
    (comfyui / "main.py").write_text("raise SystemExit(7)\n")
    result = run(
        "snapshot", str(tmp_path / "snapshot.json"), "--expect", str(tmp_path / "classes.txt")
    )
    assert result.returncode == 1
    assert "error: ComfyUI does not start (exit code 7); see above" in result.stderr
