"""What the Dockerfile promises, read from the file itself."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from models.variants import MAX_FILES, load
from worker_comfyui.config import boolean

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    re.sub(r"\s+", " ", line.replace("\\\n", " "))
    for line in re.findall(r"^(?!#)[A-Z]+ (?:.*\\\n)*.*$", TEXT, re.MULTILINE)
]


def stages() -> dict[str, list[str]]:
    """Instructions by stage; those before the first FROM under the empty name."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for instruction in INSTRUCTIONS:
        if stage := re.fullmatch(r"FROM \S+ AS (\S+)", instruction):
            name = stage.group(1)
            found[name] = []
        found[name].append(instruction)
    return found


STAGES = stages()


def ancestors(stage: str) -> list[str]:
    """The stage and those it is built from, top first."""
    chain = []
    while stage in STAGES:
        chain.append(stage)
        stage = STAGES[stage][0].split()[1]
    return chain


def test_the_file_needs_no_frontend_from_a_registry() -> None:
    assert "syntax=" not in TEXT


def test_every_file_of_a_variant_has_its_stage_and_its_layer() -> None:
    assert max(len(variant.get("files", [])) for variant in load().values()) <= MAX_FILES
    for number in range(1, MAX_FILES + 1):
        assert STAGES[f"file-{number}"][0] == f"FROM fetch AS file-{number}"
        assert "type=cache,id=weights,target=/var/cache/models " in STAGES[f"file-{number}"][1]
        assert f"source=/plan/files/{number}," in STAGES[f"file-{number}"][1]
    copies = [line for line in STAGES["weights"] if line.startswith("COPY")]
    assert copies == [
        f"COPY --link --from=file-{number} /layer /" for number in range(1, MAX_FILES + 1)
    ]


def test_a_token_is_a_build_secret_and_nothing_else() -> None:
    for instruction in INSTRUCTIONS:
        if re.search("token", instruction, re.IGNORECASE):
            assert instruction.startswith("RUN --mount=type=secret,id=HF_TOKEN "), instruction


def test_weights_do_not_depend_on_the_worker() -> None:
    below = {stage for number in range(1, MAX_FILES + 1) for stage in ancestors(f"file-{number}")}
    below |= set(ancestors("weights"))
    for stage in below:
        for instruction in STAGES[stage]:
            assert "handler.py" not in instruction
            # What downloads a file is the worker's as well, and imports nothing else of it.
            rest = re.sub(r"/?src/worker_comfyui/(models/(transfer/)?)?(\S+\.py)?", "", instruction)
            rest = rest.replace("/worker/src/start.sh", "").replace("WORKDIR /worker", "")
            assert "worker" not in rest, instruction


def test_what_downloads_in_the_build_imports_nothing_else_of_the_worker() -> None:
    folder = ROOT / "src" / "worker_comfyui" / "models" / "transfer"
    for path in folder.glob("*.py"):
        tops = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE)
        others = [name for name in tops if name.startswith("worker_comfyui")]
        assert all(name.startswith("worker_comfyui.models.transfer") for name in others), path


def test_the_worker_is_the_top_layer_of_both_images() -> None:
    for image in ("base", "final"):
        assert STAGES[image][1:] == [
            "COPY --link --from=worker-packages /opt/worker /opt/worker",
            "COPY --link --from=worker /files /",
        ]
    assert ancestors("base") == ["base", "comfyui", "system", "python"]
    assert ancestors("final") == ["final", "weights", "custom-nodes", *ancestors("comfyui")]


def test_what_is_built_without_a_target_is_a_variant() -> None:
    assert list(STAGES)[-1] == "final"


def test_the_stand_in_has_the_same_worker_and_none_of_comfyui() -> None:
    assert ancestors("stand-in") == ["stand-in", "python"]
    assert STAGES["stand-in"][2] == STAGES["base"][2]
    for line in ("ENTRYPOINT", "CMD", "WORKDIR", "EXPOSE"):
        [own] = [text for text in STAGES["stand-in"] if text.startswith(line)]
        assert own in STAGES["comfyui"]


def test_the_worker_s_environment_has_no_pytorch() -> None:
    assert "worker-packages" not in ancestors("comfyui")
    assert ancestors("worker-packages") == ["worker-packages", "python"]
    assert not re.search(r"^torch", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


def test_every_package_but_pytorch_is_installed_from_a_lock_with_hashes() -> None:
    installs = [line for line in INSTRUCTIONS if re.search(r"pip\b.* install", line)]
    assert len(installs) == 6
    locks = [
        re.findall(r"source=(\S+\.txt),", line)[0]
        for line in installs
        if "--require-hashes" in line
    ]
    assert locks == [
        "src/comfyui/cli.txt",
        "src/comfyui/requirements.txt",
        "requirements.txt",
        "src/local_comfyui/requirements.txt",
    ]
    for lock in locks:
        lines = (ROOT / lock).read_text().splitlines()
        named = [line for line in lines if re.match("[a-z]", line)]
        assert named
        assert all("==" in line and line.endswith("\\") for line in named), lock


def test_what_another_comfyui_requires_is_installed_but_for_pytorch_and_pages() -> None:
    [passed_over] = re.findall(r"grep -vE '\^\(([\w|-]+)\)", TEXT)
    pinned = (ROOT / "src" / "comfyui" / "pytorch" / "13.0.txt").read_text()
    names = re.findall(r"^(\w+)==", pinned, re.MULTILINE)
    pages = ["comfyui-workflow-templates", "comfyui-embedded-docs"]
    assert passed_over.split("|") == [*names, *pages]


def test_pytorch_and_all_that_follows_the_cuda_line_is_one_argument() -> None:
    comfyui = STAGES["comfyui"]
    assert [line for line in INSTRUCTIONS if re.match(r"ARG CUDA_VERSION", line)] == [
        "ARG CUDA_VERSION=13.0"
    ]
    environment = " ".join(line for line in comfyui if line.startswith("ENV"))
    assert "NVIDIA_REQUIRE_CUDA=cuda>=${CUDA_VERSION}" in environment
    assert "RUNPOD_MIN_CUDA_VERSION=${CUDA_VERSION}" in environment
    assert "whl/cu${CUDA_VERSION%.*}${CUDA_VERSION#*.}" in TEXT


@pytest.mark.parametrize(
    "argument",
    [
        "BASE_IMAGE",
        "PYTHON_VERSION",
        "COMFYUI_VERSION",
        "COMFYUI_COMMIT",
        "CUDA_VERSION",
        "PYTORCH",
        "PYTORCH_INDEX",
        "MODEL_TYPE",
    ],
)
def test_every_version_is_an_argument(argument: str) -> None:
    assert re.search(rf"^ARG {argument}\b", TEXT, re.MULTILINE)
    assert f"${{{argument}" in TEXT


def test_comfyui_is_pinned_to_a_whole_commit() -> None:
    assert re.search(r"^ARG COMFYUI_COMMIT=[0-9a-f]{40}$", TEXT, re.MULTILINE)


def test_the_program_is_started_in_exec_form_so_that_sigterm_reaches_it() -> None:
    started = [line for line in INSTRUCTIONS if line.startswith(("CMD", "ENTRYPOINT"))]
    assert started == ['ENTRYPOINT ["tini", "--"]', 'CMD ["/start.sh"]'] * 2
    script = (ROOT / "src" / "start.sh").read_text().splitlines()
    programs = [line.strip() for line in script if "/bin/python" in line]
    assert len(programs) == 2
    assert all(line.startswith("exec ") for line in programs)


def test_derived_images_inherit_the_shell_of_any_other_image() -> None:
    for image in ("base", "final"):
        lines = [line for stage in reversed(ancestors(image)) for line in STAGES[stage]]
        shells = [line for line in lines if line.startswith("SHELL")]
        assert shells[-1] == 'SHELL ["/bin/sh", "-c"]'


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., str]:
    """src/start.sh in a folder of its own, with programs that say how they were started."""
    script = (ROOT / "src" / "start.sh").read_text().replace("/opt/worker/bin/python", "echo")
    script = script.replace("cd /worker", f"cd {tmp_path}")

    def start(after: str = "", **variables: str) -> str:
        done = subprocess.run(
            ["bash", "-c", script.replace("exec echo", f"{after}\nexec echo")],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)} | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout + done.stderr

    return start


@pytest.mark.parametrize("value", ["true", "True", "1", "yes", "on", "", "false", "0", None])
def test_the_image_serves_an_api_or_is_a_worker(
    start: Callable[..., str], value: str | None
) -> None:
    serves = value is not None and value != "" and boolean(value)
    program = "-m local_runpod serve --host 0.0.0.0" if serves else "/worker/handler.py"
    assert start(**({} if value is None else {"SERVE_API_LOCALLY": value})) == f"{program}\n"


def test_without_rights_beside_comfyui_its_folders_are_elsewhere(
    start: Callable[..., str], tmp_path: Path
) -> None:
    comfyui = tmp_path / "comfyui-of-root"
    (comfyui / "input").mkdir(parents=True)
    (comfyui / "input" / "baked.png").write_text("")
    shown = 'echo "$COMFYUI_ARGS" "$HOME"'
    given = {"COMFYUI_PATH": str(comfyui), "COMFYUI_ARGS": "--cpu", "HOME": "/nowhere"}
    assert (
        start(shown, **given)
        == f"--output-directory {comfyui}/output  --cpu {tmp_path}\n/worker/handler.py\n"
    )
    comfyui.chmod(0o555)
    try:
        if os.access(comfyui, os.W_OK):
            pytest.skip("root may write everywhere")
        printed = start(shown, **given)
    finally:
        comfyui.chmod(0o755)
    own = tmp_path / "comfyui"
    for kind in ("input", "output", "user"):
        assert f"--{kind}-directory {own}/{kind}" in printed
        assert (own / kind).is_dir()
    assert f"--temp-directory {own} " in printed
    assert f"sqlite:///{own}/user/comfyui.db --cpu" in printed
    assert (own / "input" / "baked.png").exists()


def test_the_output_folder_is_where_nodes_write_if_anyone_can_write_there(
    start: Callable[..., str], tmp_path: Path
) -> None:
    comfyui = tmp_path / "comfyui-of-root"
    (comfyui / "input").mkdir(parents=True)
    (comfyui / "output").mkdir()
    comfyui.chmod(0o555)
    try:
        if os.access(comfyui, os.W_OK):
            pytest.skip("root may write everywhere")
        printed = start('echo "$COMFYUI_ARGS"', COMFYUI_PATH=str(comfyui))
    finally:
        comfyui.chmod(0o755)
    assert f"--output-directory {comfyui}/output " in printed
    assert f"--input-directory {tmp_path}/comfyui/input " in printed


def test_ssh_starts_only_with_a_key(start: Callable[..., str]) -> None:
    assert "SSH" not in start()
    text = (ROOT / "src" / "start.sh").read_text()
    assert text.index("PUBLIC_KEY") < text.index("/usr/sbin/sshd")
    assert "PasswordAuthentication=no" in text
    assert "rm -rf /etc/ssh/ssh_host_*" in TEXT


def test_everything_that_a_worker_runs_is_compiled() -> None:
    assert "compileall -q -j 0 /comfyui" in TEXT
    assert "compileall -q -s /files -p / /files" in TEXT
    for stage in ("comfyui", "worker", "worker-packages", "stand-in-packages"):
        assert any(line.startswith("ARG SOURCE_DATE_EPOCH=") for line in STAGES[stage])
    assert "PYTHONDONTWRITEBYTECODE" not in TEXT
    not_compiled = [name for name, lines in STAGES.items() if "--no-compile" in " ".join(lines)]
    assert not_compiled == ["comfy-cli"]
    assert "PYTHONDONTWRITEBYTECODE=1" in (ROOT / "scripts" / "comfy").read_text()


def test_an_environment_has_a_pip_only_where_custom_nodes_use_it() -> None:
    for name, lines in STAGES.items():
        made = [line for line in lines if "-m venv" in line]
        assert name in {"pip", "comfyui"} or all("--without-pip" in line for line in made)


def test_a_layer_of_system_packages_has_no_cache_nor_log_and_needs_no_sync() -> None:
    installs = [line for line in INSTRUCTIONS if "apt-get install" in line]
    assert len(installs) == 2
    for line in installs:
        assert "--no-install-recommends -o Dpkg::Options::=--force-unsafe-io" in line
        for path in ("/var/lib/apt/lists/*", "/var/cache/apt/*", "/var/log/*.log"):
            assert path in line.split("rm -rf")[1]


def test_what_is_copied_is_in_the_build_s_context() -> None:
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = [
        source
        for line in INSTRUCTIONS
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    copied += re.findall(r"type=bind,source=(\S+),", TEXT)
    assert copied
    for source in copied:
        assert any(source == name or source.startswith(f"{name}/") for name in allowed), source
        assert list(ROOT.glob(source)), source
