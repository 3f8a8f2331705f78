"""Real images, built by a real Docker engine through bake, and run: see scripts/test-images.

ComfyUI's place takes local_comfyui, that of the hub a stand-in with small files: so neither
gigabytes nor a GPU are needed. Everything else is the Dockerfile as it is.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import requests

from models.variants import load
from tests.support.hub import Hub, safetensors
from tests.support.waiting import comes_true
from tests.support.workflows import node, saved_image
from worker_comfyui.comfyui.process.port import free_port
from worker_comfyui.models.transfer.partial import PIECE_BYTES

# The first builds, which take long on a slow machine, are fixtures: their time is not a test's.
pytestmark = pytest.mark.timeout(1800, func_only=True)

ROOT = Path(__file__).parents[2]
VARIANT = "sdxl"
IMAGE = "worker-comfyui-test"
TOKEN = "hf_made_up_for_this_build"
BASE_IMAGE = os.environ.get("BASE_IMAGE", "ubuntu:24.04")
# Bake may read folders outside of the current one: else it asks first, and fails where nobody
# can answer. Before buildx 0.19 it neither asks nor has a flag for it.
ALLOWED = {"BUILDX_BAKE_ENTITLEMENTS_FS": "0"}


def docker(
    *arguments: str, check: bool = True, environ: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Run docker; return what it printed, errors included."""
    result = subprocess.run(
        ["docker", *arguments],
        env={**ALLOWED, **os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert not check or result.returncode == 0, result.stdout[-5000:]
    return result.stdout


def copied(container: str, path: str) -> bytes:
    """What lies there in a container, as an archive."""
    return subprocess.check_output(["docker", "cp", f"{container}:{path}", "-"])


def gateway() -> str:
    """The address under which a build reaches this machine."""
    template = "{{(index .IPAM.Config 0).Gateway}}"
    return docker("network", "inspect", "bridge", "--format", template).strip() or "172.17.0.1"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(folder=tmp_path_factory.mktemp("hub"), one_port=True).running(gateway()) as running:
        yield running


@pytest.fixture(scope="module")
def contents(hub: Hub) -> dict[str, bytes]:
    """The variant's files by destination, each with content of its own; the second is gated."""
    files = load()[VARIANT]["files"]
    made = {file["destination"]: safetensors(1_000_000, seed) for seed, file in enumerate(files)}
    for number, (destination, content) in enumerate(made.items()):
        hub.add(f"test/{number}/model.safetensors", content)
        assert destination
    hub.gated["test/1"] = TOKEN
    return made


@pytest.fixture(scope="module")
def checkout(contents: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose variant names the stand-in's files."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Dockerfile", ".dockerignore", "docker-bake.hcl", "handler.py"):
        shutil.copy(ROOT / name, folder)
    for name in ("requirements.txt", "test_input.json", "LICENSE", "THIRD-PARTY.md"):
        shutil.copy(ROOT / name, folder)
    for name in ("src", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "openapi.json", folder / "docs")
    listed = folder / "src" / "models" / "variants.json"
    document = json.loads(listed.read_text())
    document["variants"][VARIANT]["files"] = [
        {
            "repository": f"test/{number}",
            "path": "model.safetensors",
            "destination": destination,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "gated": number == 1,
        }
        for number, (destination, content) in enumerate(contents.items())
    ]
    listed.write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def comfyui_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """local_comfyui, laid out as ComfyUI's source."""
    folder = tmp_path_factory.mktemp("comfyui-source")
    shutil.copytree(ROOT / "src" / "local_comfyui", folder / "local_comfyui")
    # Its folders are beside it, unless a flag says otherwise.
    (folder / "main.py").write_text(
        "import pathlib, sys\n"
        "from local_comfyui.application import run\n"
        "beside = ['--base-directory', str(pathlib.Path(__file__).parent)]\n"
        "sys.exit(run([*beside, *sys.argv[1:]]))\n"
    )
    (folder / "comfyui_version.py").write_text('__version__ = "0.0.1"\n')
    (folder / "requirements.txt").write_text("aiohttp\npillow\n")
    (folder / "custom_nodes").mkdir()
    (folder / "models").mkdir()
    return folder


ORIGIN = {
    "RELEASE_VERSION": "1.2.3",
    "REVISION": "0123456789abcdef0123456789abcdef01234567",
    "REPOSITORY_URL": "https://example.com/worker-comfyui",
}


@pytest.fixture(scope="module")
def environ(hub: Hub) -> dict[str, str]:
    """What bake reads. PYTORCH: any small package; nothing here computes."""
    return {
        **ORIGIN,
        "COMFYUI_VERSION": "0.0.1",
        "PYTORCH": "six==1.17.0",
        "PYTORCH_INDEX": "https://pypi.org/simple",
        "HF_ENDPOINT": hub.url,
        "BASE_IMAGE": BASE_IMAGE,
        "PYTHON_VERSION": os.environ.get("PYTHON_VERSION", "3.12"),
    }


@pytest.fixture(scope="module")
def bake(checkout: Path, comfyui_source: Path) -> Any:
    """The arguments of a build."""

    def bake(target: str, tag: str, *more: str) -> list[str]:
        return [
            *("buildx", "bake", "--progress", "plain", *(more or ("--load",))),
            *("--file", str(checkout / "docker-bake.hcl"), target),
            *("--set", f"*.context={checkout}"),
            *("--set", f"*.contexts.comfyui-source={comfyui_source}"),
            *("--set", f"*.tags={IMAGE}:{tag}"),
        ]

    return bake


@pytest.fixture(scope="module")
def build(bake: Any, environ: dict[str, str]) -> Any:
    def build(target: str, tag: str, *more: str, token: str = TOKEN) -> str:
        return docker(
            *bake(target, tag, *more), environ={"HUGGINGFACE_ACCESS_TOKEN": token, **environ}
        )

    return build


@pytest.fixture(scope="module")
def base(build: Any) -> Iterator[str]:
    build("base", "base")
    yield f"{IMAGE}:base"
    docker("image", "rm", "--force", f"{IMAGE}:base")


@pytest.fixture(scope="module")
def final(build: Any) -> Iterator[str]:
    build(VARIANT, "final")
    yield f"{IMAGE}:final"
    docker("image", "rm", "--force", f"{IMAGE}:final")


@pytest.fixture(scope="module")
def stand_in(build: Any) -> Iterator[str]:
    build("stand-in", "stand-in")
    yield f"{IMAGE}:stand-in"
    docker("image", "rm", "--force", f"{IMAGE}:stand-in")


def layers(image: str) -> list[str]:
    found: list[str] = json.loads(
        docker("image", "inspect", image, "--format", "{{json .RootFS.Layers}}")
    )
    return found


def saved(image: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every blob of the image: layers, history, and where there is one, the attestation."""
    path = folder / "image.tar"
    docker("image", "save", "--output", str(path), image)
    with tarfile.open(path) as archive:
        for member in archive:
            if stream := archive.extractfile(member):
                data = stream.read()
                yield member.name, gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    path.unlink()


def files_in(blob: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
            for member in archive:
                if member.isfile() and (stream := archive.extractfile(member)):
                    yield member.name, stream.read()
    except tarfile.ReadError:
        return


def megabytes(image: str) -> int:
    return int(docker("run", "--rm", "--entrypoint", "du", image, "-xsm", "/").split()[0])


@pytest.mark.parametrize("name", ["base", "final"])
def test_the_image_runs_test_input_and_answers(name: str, request: pytest.FixtureRequest) -> None:
    output = docker("run", "--rm", request.getfixturevalue(name))
    assert "completed successfully" in output
    assert "'type': 'base64'" in output


def test_docker_build_makes_what_bake_makes(
    base: str, final: str, checkout: Path, comfyui_source: Path, environ: dict[str, str]
) -> None:
    """With the arguments that docs/deployment.md names, and where the stand-ins are."""
    token = ["--secret", "id=HF_TOKEN,env=HUGGINGFACE_ACCESS_TOKEN"]
    stand_ins = [f"--build-arg={name}={value}" for name, value in environ.items()]
    stand_ins += ["--build-context", f"comfyui-source={comfyui_source}"]
    for image, arguments in (
        (base, ["--target", "base"]),
        (final, ["--build-arg", f"MODEL_TYPE={VARIANT}", *token]),
    ):
        made = [*arguments, "--tag", f"{IMAGE}:by-hand", *stand_ins, str(checkout)]
        docker("build", *made, environ={"HUGGINGFACE_ACCESS_TOKEN": TOKEN})
        by_hand = layers(f"{IMAGE}:by-hand")
        docker("image", "rm", "--force", f"{IMAGE}:by-hand")
        assert by_hand == layers(image)


def test_labels_say_what_it_is_and_where_it_comes_from(final: str) -> None:
    shown = docker("image", "inspect", final, "--format", "{{json .Config.Labels}}")
    labels = json.loads(shown)
    expected = {
        "title": "worker-comfyui",
        "version": ORIGIN["RELEASE_VERSION"],
        "revision": ORIGIN["REVISION"],
        "source": ORIGIN["REPOSITORY_URL"],
        "licenses": "MIT AND GPL-3.0-only",
    }
    for name, value in expected.items():
        assert labels[f"org.opencontainers.image.{name}"] == value


def test_sigterm_ends_it_within_seconds_and_cleanly(base: str) -> None:
    for after_s in (0.2, 3.0):
        container = docker("run", "--detach", "--env", "SERVE_API_LOCALLY=true", base).strip()
        try:
            time.sleep(after_s)
            start = time.monotonic()
            docker("stop", "--time", "30", container)
            assert time.monotonic() - start < 8
            code = docker("inspect", "--format", "{{.State.ExitCode}}", container).strip()
            assert code in {"0", "143"}  # 143: before Python had set a handler
        finally:
            docker("rm", "--force", container)


WRITES = """
import pathlib

class Writes:
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "run", True, "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {})}}

    def run(self, path):
        pathlib.Path(path).write_text("by the node itself")
        return {}

NODE_CLASS_MAPPINGS = {"Writes": Writes}
"""


@pytest.fixture(scope="module")
def writing(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with a node that asks nobody where to write; its request runs it, and SaveImage."""
    folder = tmp_path_factory.mktemp("writing")
    (folder / "writes.py").write_text(WRITES)
    workflow = saved_image()
    for name in ("/comfyui/output/absolute.txt", "output/relative.txt"):
        workflow[name] = node("Writes", path=name)
    (folder / "test_input.json").write_text(json.dumps({"input": {"workflow": workflow}}))
    (folder / "Dockerfile").write_text(
        f"FROM {base}\n"
        # As in ComfyUI's repository, and as derived images may have it.
        "RUN touch /comfyui/output/_output_images_will_be_put_here\n"
        "RUN mkdir /comfyui/output/examples && touch /comfyui/output/examples/old.png\n"
        "COPY writes.py /comfyui/custom_nodes/\n"
        "COPY test_input.json /request/\n"
        "WORKDIR /request\n"
    )
    docker("build", "--tag", f"{IMAGE}:writing", str(folder))
    yield f"{IMAGE}:writing"
    docker("image", "rm", "--force", f"{IMAGE}:writing")


USER = ("--user", "1000")
READ_ONLY = ("--read-only", "--tmpfs", "/tmp", "--tmpfs", "/comfyui/output")  # noqa: S108


@pytest.mark.parametrize("flags", [(), USER, READ_ONLY, (*USER, *READ_ONLY)])
def test_it_gives_all_files_back_and_keeps_none_whoever_runs_it(
    writing: str, flags: tuple[str, ...]
) -> None:
    container = docker("create", *flags, writing).strip()
    try:
        output = docker("start", "--attach", container)
        assert "completed successfully" in output
        found = set(re.findall(r"'filename': '([^']+)'", output))
        assert found == {"result_00001_.png", "absolute.txt", "relative.txt"}
        with tarfile.open(fileobj=io.BytesIO(copied(container, "/comfyui/output"))) as archive:
            assert sorted(archive.getnames()) == [
                "output",
                "output/_output_images_will_be_put_here",
                "output/examples",
                "output/examples/old.png",
            ]
    finally:
        docker("rm", "--force", container)


def test_a_read_only_root_needs_one_folder_to_write_to(base: str) -> None:
    output = docker("run", "--rm", *USER, "--read-only", "--tmpfs", "/tmp", base)  # noqa: S108
    assert "completed successfully" in output
    assert "'type': 'base64'" in output


LOGS_IN = """
ssh-keygen -q -t ed25519 -N '' -f /tmp/key
ssh-keygen -q -t ed25519 -N '' -f /tmp/other
export PUBLIC_KEY=$(cat /tmp/key.pub) SERVE_API_LOCALLY=true
/start.sh >/tmp/log 2>&1 &
for _ in $(seq 100); do (: </dev/tcp/127.0.0.1/22) 2>/dev/null && break; sleep 0.1; done
echo root:known | chpasswd
log_in() { ssh -o StrictHostKeyChecking=no -o BatchMode=yes "$@" root@127.0.0.1 echo logged in; }
log_in -i /tmp/key
log_in -i /tmp/other -o IdentitiesOnly=yes
log_in -o PubkeyAuthentication=no
"""


def test_the_key_logs_in_and_neither_another_nor_a_password(base: str) -> None:
    output = docker("run", "--rm", "--entrypoint", "bash", base, "-c", LOGS_IN, check=False)
    assert output.count("logged in") == 1, output
    # What the server offers to one without the key.
    assert output.count("root@127.0.0.1: Permission denied (publickey).") == 2, output


def test_ssh_listens_nowhere_without_a_key(base: str) -> None:
    listens = "import socket; print(socket.create_connection(('127.0.0.1', 22), 1).recv(3))"
    container = docker("run", "--detach", "--env", "SERVE_API_LOCALLY=true", base).strip()
    try:
        time.sleep(3)
        answer = docker("exec", container, "python", "-c", listens, check=False)
        assert "ConnectionRefusedError" in answer
    finally:
        docker("rm", "--force", container)


def test_no_image_has_keys_of_a_host(base: str) -> None:
    found = docker("run", "--rm", "--entrypoint", "ls", base, "/etc/ssh")
    assert "ssh_host_" not in found


def test_what_derived_dockerfiles_call_is_there(base: str) -> None:
    programs = "comfy comfy-node-install restore-snapshot curl ffmpeg ffprobe g++ git uv wget"
    docker("run", "--rm", "--entrypoint", "bash", base, "-c", f"type {programs} /start.sh")


def test_the_stand_in_is_small_and_has_no_comfyui(stand_in: str) -> None:
    # 180 of these MB are av and numpy, with which it makes videos and audio.
    assert megabytes(stand_in) - megabytes(BASE_IMAGE) < 600
    docker("run", "--rm", "--entrypoint", "test", stand_in, "!", "-e", "/comfyui")


def test_the_stand_in_serves_the_api(stand_in: str) -> None:
    ask = """
import json, urllib.request
request = open("/worker/test_input.json", "rb").read()
where = urllib.request.Request("http://127.0.0.1:8000/runsync", request)
where.add_header("Content-Type", "application/json")
print(json.load(urllib.request.urlopen(where, timeout=60))["status"])
"""
    container = docker("run", "--detach", stand_in).strip()
    try:
        deadline = time.monotonic() + 60
        answer = ""
        while "COMPLETED" not in answer and time.monotonic() < deadline:
            time.sleep(1)
            answer = docker("exec", container, "/opt/worker/bin/python", "-c", ask, check=False)
        assert "COMPLETED" in answer
    finally:
        docker("rm", "--force", container)


def test_compose_serves_the_stand_in_to_this_machine(stand_in: str, tmp_path: Path) -> None:
    override = tmp_path / "image.yml"
    override.write_text(f"services: {{cpu: {{image: '{stand_in}'}}}}\n")
    (tmp_path / ".env").write_text("MAX_INPUT_MB=7\n")  # where compose looks for it
    files = ("--file", str(ROOT / "docker-compose.yml"), "--file", str(override))
    place = ("--project-name", IMAGE, "--project-directory", str(tmp_path))
    compose = ("compose", *place, *files, "--profile", "cpu")
    port = free_port()
    environ = {"API_PORT": str(port), "VOLUME": str(tmp_path / "volume")}
    try:
        docker(*compose, "up", "--detach", "--no-build", environ=environ)
        request = (ROOT / "test_input.json").read_bytes()
        headers = {"Content-Type": "application/json"}
        assert comes_true(lambda: answers(port), 60)
        answer = requests.post(
            f"http://127.0.0.1:{port}/runsync", data=request, headers=headers, timeout=60
        ).json()
        assert answer["status"] == "COMPLETED", answer
        assert {image["type"] for image in answer["output"]["images"]} == {"base64"}
        settings = docker(*compose, "exec", "-T", "cpu", "env", environ=environ)
        assert "MAX_INPUT_MB=7" in settings.splitlines()
    finally:
        docker(*compose, "down", "--timeout", "5", environ=environ)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_the_same_build_makes_the_same_layers(stand_in: str, build: Any, tmp_path: Path) -> None:
    assert stand_in
    found = []
    # What another test has built some time ago, and all of it anew.
    for number, cache in enumerate(([], ["--no-cache"])):
        archive = tmp_path / f"{number}.tar"
        where = os.environ.get("DOCKER_SEES_HOST_AT", "") + str(archive)
        output = f"stand-in.output=type=oci,dest={where},rewrite-timestamp=true"
        try:
            build("stand-in", "again", *cache, "--set", output)
        except AssertionError as error:
            if "exporter" in str(error) and "not supported" in str(error):
                pytest.skip("needs the containerd image store or another builder")
            raise
        with tarfile.open(archive) as opened:
            names = {name.rpartition("/")[2] for name in opened.getnames()}
            index = json.load(opened.extractfile("index.json") or io.BytesIO())
            manifest = index["manifests"][0]["digest"].partition(":")[2]
            assert manifest in names
            content = json.load(opened.extractfile(f"blobs/sha256/{manifest}") or io.BytesIO())
            found.append([layer["digest"] for layer in content["layers"]])
        archive.unlink()
    assert len(found[0]) > 3
    assert found[0] == found[1]


def test_the_worker_cannot_import_pytorch(base: str) -> None:
    program = "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('runpod'))"
    output = docker("run", "--rm", base, "/opt/worker/bin/python", "-c", program)
    assert output.startswith("None ModuleSpec")


def test_everything_is_compiled(base: str) -> None:
    program = """
from importlib.util import cache_from_source
from pathlib import Path
for folder in ("/worker", "/comfyui", "/opt/worker/lib", "/opt/comfyui/lib"):
    for path in Path(folder).rglob("*.py"):
        if path.stat().st_size and not Path(cache_from_source(str(path))).exists():
            print(path)
"""
    output = docker("run", "--rm", base, "/opt/worker/bin/python", "-B", "-c", program)
    missing = len(output.splitlines())
    assert missing < 20  # files that are no Python 3, such as templates


def test_the_weights_are_there_once_each_in_a_layer_of_its_own(
    final: str, contents: dict[str, bytes], tmp_path: Path
) -> None:
    found: dict[str, list[str]] = {}
    for blob_name, blob in saved(final, tmp_path):
        for name, content in files_in(blob):
            for destination, expected in contents.items():
                if content == expected:
                    assert name == f"comfyui/models/{destination}"
                    found.setdefault(destination, []).append(blob_name)
    assert set(found) == set(contents)
    assert all(len(blobs) == 1 for blobs in found.values())
    assert len({blobs[0] for blobs in found.values()}) == len(contents)


def test_no_token_is_in_any_layer_history_or_attestation(final: str, tmp_path: Path) -> None:
    blobs = list(saved(final, tmp_path))
    assert len(blobs) > 10
    assert not [name for name, blob in blobs if TOKEN.encode() in blob]


def test_a_change_of_the_worker_rebuilds_its_own_layer_only(
    final: str, build: Any, checkout: Path, hub: Hub
) -> None:
    before = layers(final)
    hub.served.clear()
    handler = checkout / "handler.py"
    handler.write_text(handler.read_text() + "\n# changed\n")
    # A tag of its own: an engine with containerd's image store may clean up below a tag that moves.
    output = build(VARIANT, "changed", token="")
    changed = layers(f"{IMAGE}:changed")
    docker("image", "rm", "--force", f"{IMAGE}:changed")
    assert changed[:-1] == before[:-1]
    assert changed[-1] != before[-1]
    assert hub.all_sent() == 0
    assert not re.search(r"pip install.*\n#\d+ \d", output)


def test_a_build_that_is_cut_off_at_nine_tenths_downloads_the_last_tenth(
    checkout: Path, bake: Any, environ: dict[str, str], hub: Hub
) -> None:
    name = "test/cut-off/model.safetensors"
    content = safetensors(40 * PIECE_BYTES, seed=99)
    file = {
        "repository": "test/cut-off",
        "path": "model.safetensors",
        "destination": "vae/cut-off.safetensors",
        "bytes": len(content),
        "sha256": hub.add(name, content),
    }
    # Nine tenths come, with what is asked for beside them; no more until the build is ended.
    most = 36 * PIECE_BYTES
    hub.bytes_per_s, hub.refuse_after[name] = PIECE_BYTES, most
    command = ["docker", *bake(VARIANT, "never", "--set", f"{VARIANT}.target=file-1")]
    with first_file(checkout, file):
        with subprocess.Popen(
            command, env=ALLOWED | os.environ | environ, start_new_session=True
        ) as building:
            assert comes_true(lambda: not hub.at_once and hub.sent_so_far(name) >= most, 300)
            time.sleep(1)
            os.killpg(building.pid, signal.SIGKILL)
        hub.bytes_per_s = None
        hub.refuse_after.clear()
        before = hub.sent(name)
        assert most <= before < len(content)
        docker(*command[1:], environ=environ)
    # What came is kept, but for the piece that was just being written.
    assert 0 < hub.sent(name) - before <= len(content) - before + PIECE_BYTES


@contextmanager
def first_file(checkout: Path, file: dict[str, Any]) -> Iterator[None]:
    """Give the variant another first file."""
    listed = checkout / "src" / "models" / "variants.json"
    text = listed.read_text()
    changed = json.loads(text)
    changed["variants"][VARIANT]["files"][0] = file
    listed.write_text(json.dumps(changed))
    try:
        yield
    finally:
        listed.write_text(text)


@pytest.mark.parametrize(
    ("token", "sentence"),
    [("", "can be read with a token only: accept the terms"), ("hf_wrong", "was refused (403)")],
)
def test_a_build_without_the_right_token_fails_with_what_to_do(
    final: str, checkout: Path, build: Any, token: str, sentence: str
) -> None:
    assert final
    listed = checkout / "src" / "models" / "variants.json"
    text = listed.read_text()
    # Another place for the gated file: what was built with the token would be in the cache.
    changed = json.loads(text)
    changed["variants"][VARIANT]["files"][1]["destination"] = f"vae/{token or 'none'}"
    listed.write_text(json.dumps(changed))
    try:
        with pytest.raises(AssertionError, match=re.escape(sentence)):
            build(VARIANT, "never", token=token)
    finally:
        listed.write_text(text)


def test_a_derived_image_installs_custom_nodes_or_fails(
    base: str, hub: Hub, tmp_path: Path
) -> None:
    node = tmp_path / "ComfyUI-Example"
    node.mkdir()
    (node / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "1"]):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=node, check=True)
    # A workflow that the image stores, and a request that names it.
    (tmp_path / "workflows").mkdir()
    request = json.loads((ROOT / "test_input.json").read_text())
    (tmp_path / "workflows" / "portrait.json").write_text(json.dumps(request["input"]["workflow"]))
    named = {"input": request["input"] | {"workflow": "portrait"}}
    (tmp_path / "test_input.json").write_text(json.dumps(named))
    (tmp_path / "Dockerfile").write_text(
        f"FROM {base}\n"
        "COPY workflows/ /workflows/\n"
        "COPY test_input.json /\n"
        "COPY ComfyUI-Example /src/ComfyUI-Example\n"
        "RUN git config --global --add safe.directory '*' "
        "&& comfy-node-install file:///src/ComfyUI-Example "
        "&& find /comfyui/custom_nodes/ComfyUI-Example -name '*.pyc' | grep -q .\n"
        "RUN ! comfy-node-install file:///src/nothing-here\n"
        "WORKDIR /\n"
        "RUN rm -rf /comfyui/custom_nodes/ComfyUI-Example "
        "&& comfy node install --exit-on-fail file:///src/ComfyUI-Example --mode remote "
        "&& test -e /comfyui/custom_nodes/ComfyUI-Example/__init__.py\n"
        # With the shell of any other image: bash's strict options would end all three.
        'RUN false; test -z "$SET_BY_NOBODY"; yes | head -n 1\n'
        "RUN uv pip install idna==3.10 && pip freeze | grep -qx idna==3.10\n"
        # Whatever installs it: PyTorch, whose place six takes here, stays at its exact version.
        "RUN ! pip install six==1.16.0 && ! uv pip install six==1.16.0 "
        "&& pip freeze | grep -qx six==1.17.0\n"
        f"RUN comfy model download --url {hub.url}/test/0/resolve/main/model.safetensors "
        "--relative-path models/loras --filename x.safetensors "
        "&& test -s /comfyui/models/loras/x.safetensors\n"
        'CMD ["/start.sh"]\n'
    )
    docker("build", "--tag", f"{IMAGE}:derived", str(tmp_path))
    assert "completed successfully" in docker("run", "--rm", f"{IMAGE}:derived")
    docker("image", "rm", "--force", f"{IMAGE}:derived")
