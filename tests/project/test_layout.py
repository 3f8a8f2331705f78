"""How the code is laid out: imports go downward, and importing it does nothing."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
WORKER = SRC / "worker_comfyui"

LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(layer.split())
    for layer in (
        # Top to bottom: a room imports only from layers below its own.
        "platform_side",
        "worker preflight",
        "run",
        "workflows",
        "delivery models request",
        "comfyui",
        "media volume",
        "job logs",
        "redaction",
        "config",
        "hosts",
        "stop",
        "errors",
        "strict wording",
    )
)
PACKAGES = tuple(path.parent.name for path in WORKER.glob("*/__init__.py"))
"""Packages that count as one module: what is inside them may import each other."""

COMFYUI_S_OWN = frozenset(
    ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "nodes")
)


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, with `package.name` for `from package import`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(path: Path) -> str:
    """The name of a file of the worker, as it stands in LAYERS."""
    parts = path.relative_to(WORKER).with_suffix("").parts
    return parts[0] if parts[0] in PACKAGES else ".".join(parts)


MODULES = {
    path: module_of(path) for path in sorted(WORKER.rglob("*.py")) if path.name != "__init__.py"
}
MOST_ROOMS = 20
MOST_IMPORTED = 9
MOST_STAND_IN_LINES = 3000
INNER = {
    # Packages within a room, and what of their room they know.
    "comfyui/process": {"client"},
    "models/transfer": set(),
    "workflows/editor": set(),
    "workflows/embedded": set(),
}
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}


def worker_modules_of(path: Path) -> set[str]:
    """The worker's modules that a file imports."""
    inside = (name for name in imported(path) if name.startswith("worker_comfyui."))
    names = [name.removeprefix("worker_comfyui.") for name in inside]
    known = set(MODULES.values())
    found = set()
    for name in names:
        parts = name.split(".")
        prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
        found |= {next((prefix for prefix in prefixes if prefix in known), name)}
    return found


def test_every_module_of_the_worker_has_its_layer() -> None:
    assert set(MODULES.values()) - set(LEVEL) == set(), "put these into LAYERS above"


def test_no_module_is_in_two_layers() -> None:
    assert sum(map(len, LAYERS)) == len(LEVEL)


@pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(WORKER))) for p in MODULES])
def test_a_module_of_the_worker_imports_only_from_layers_below(path: Path) -> None:
    own = MODULES[path]
    wrong = {
        other
        for other in worker_modules_of(path) - {own}
        if LEVEL.get(other, len(LAYERS)) <= LEVEL[own]
    }
    assert wrong == set()


def test_the_worker_has_few_rooms_and_none_knows_many() -> None:
    rooms = set(MODULES.values())
    assert len(rooms) <= MOST_ROOMS
    for room in rooms:
        others = {
            other
            for path, own in MODULES.items()
            if own == room
            for other in worker_modules_of(path) - {room, "__version__"}
        }
        assert len(others) <= MOST_IMPORTED, room


def test_a_package_within_a_room_knows_little_of_its_room() -> None:
    found = {str(path.parent.relative_to(WORKER)) for path in WORKER.glob("*/*/__init__.py")}
    assert found == set(INNER)
    for package, known in INNER.items():
        room = "worker_comfyui." + package.partition("/")[0]
        own = "worker_comfyui." + package.replace("/", ".")
        names = {name for path in (WORKER / package).glob("*.py") for name in imported(path)}
        of_the_room = {
            name.removeprefix(room + ".").partition(".")[0]
            for name in names
            if f"{name}.".startswith(room + ".") and not f"{name}.".startswith(own + ".")
        }
        assert of_the_room <= known, package


def test_the_walk_through_the_worker_names_files_that_are_there() -> None:
    text = (ROOT / "docs/development.md").read_text()
    walk = text.partition("## How the worker is made\n")[2].partition("\n## ")[0]
    names = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", walk))
    names -= {"src/worker_comfyui/", "handler.py", "tests/project/test_layout.py"}
    assert len(names) > 20
    paths = [path.as_posix() + "/" * path.is_dir() for path in WORKER.rglob("*")]
    assert [name for name in names if not any(p.endswith(f"/{name}") for p in paths)] == []


def test_packages_are_one_line_each() -> None:
    # What a package re-exported would be a way around the layers.
    for path in WORKER.rglob("__init__.py"):
        assert list(imported(path)) == [], path


def test_the_worker_the_local_comfyui_and_the_local_platform_know_nothing_of_each_other() -> None:
    names = ("worker_comfyui", "local_comfyui", "local_runpod")
    seen = 0
    for name in names:
        for path in (SRC / name).rglob("*.py"):
            others = {module.partition(".")[0] for module in imported(path)} & set(names)
            assert others <= {name}, path
            seen += 1
    assert seen > 60


def test_the_local_comfyui_stays_small() -> None:
    paths = (SRC / "local_comfyui").rglob("*.py")
    lines = [line for path in paths for line in path.read_text().splitlines()]
    assert 1000 < len(lines) <= MOST_STAND_IN_LINES, "a route or node that nobody needs?"


def test_the_worker_imports_nothing_of_comfyui_s() -> None:
    for path in MODULES:
        tops = {module.partition(".")[0] for module in imported(path)}
        assert not tops & (COMFYUI_S_OWN | {"torch"}), path


def environment_reads(path: Path) -> list[int]:
    """The lines in which a file reads environment variables; setting one is no reading."""
    tree = ast.parse(path.read_text())
    set_only = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Attribute)
            and node.attr in {"environ", "environb", "getenv", "getenvb"}
            and id(node) not in set_only
        )
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
    ]


def test_only_the_settings_are_made_of_environment_variables() -> None:
    # And they take them as a mapping: the entrypoint hands it over, once.
    assert {path.name for path in MODULES if environment_reads(path)} == set()
    assert len(environment_reads(ROOT / "handler.py")) == 1
    assert "environ = dict(os.environ)" in (ROOT / "handler.py").read_text()


IMPORT = """
import json, logging, sys
seen = []
watched = ("subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system", "socket.")
watched += ("_thread.start",)
sys.addaudithook(lambda name, _: seen.append(name) if name.startswith(watched) else None)
import handler
handlers = len(logging.root.handlers)
print(json.dumps({"seen": seen, "modules": sorted(sys.modules), "handlers": handlers}))
"""


def test_importing_the_entrypoint_does_nothing() -> None:
    environment = {**os.environ, "COMFYUI_PATH": str(SRC / "local_comfyui")}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    result = json.loads(done.stdout)  # nothing else was printed
    # socket.__new__ of a probe would show, as would any thread.
    assert result["seen"] == []
    assert result["handlers"] == 0
    tops = {name.partition(".")[0] for name in result["modules"]}
    assert "worker_comfyui" in tops
    assert not tops & {"runpod", "boto3", "botocore", "aiohttp", "torch"}


def test_what_an_experiment_left_is_not_among_the_sources() -> None:
    """The images take them as they lie there."""
    command = ["git", "ls-files", "src"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(names.split()) > 100
    assert [name for name in names.split() if not Path(name).suffix] == []
