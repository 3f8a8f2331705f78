"""Takes out of ComfyUI's installed packages what no job reads, and says how much that was.

A package's files are named by patterns below site-packages. What a release does not have any more
is passed over; what it has in another place stays.
"""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

UNUSED = {
    # The libraries of Triton's profiler (Proton) for CUDA 12 and 13, three times each, and static.
    "triton/backends/nvidia/lib/cupti*": "Triton's profiler",
    "triton/_C/libproton.so": "Triton's profiler",
    # PyTorch loads libnvrtc; the other one is for programs that ask for it.
    "nvidia/*/lib/libnvrtc*.alt.so*": "a second build of CUDA's compiler",
    "nvidia/*/lib/libcusolverMg.so*": "linear algebra on several GPUs",
    "nvidia/*/lib/libnvshmem_device.*": "kernels that reach into other GPUs",
    "nvidia/*/lib/*.a": "static libraries",
    "comfyui_frontend_package/static/**/*.map": "what debuggers of ComfyUI's page read",
    "numpy/**/tests": "tests",
    "scipy/**/tests": "tests",
    "sympy/**/tests": "tests",
    "networkx/**/tests": "tests",
}


def remove(folder: Path) -> Iterator[tuple[str, int]]:
    """Remove what is unused below a folder of packages; yield each pattern with its bytes."""
    for pattern in UNUSED:
        found = list(folder.glob(pattern))
        yield pattern, sum(_size(path) for path in found)
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def main() -> None:
    """Remove it from the environment that runs this."""
    for pattern, size in remove(Path(sysconfig.get_path("purelib"))):
        if size:
            print(f"removed {size / 1e6:.0f} MB: {pattern} ({UNUSED[pattern]})")


if __name__ == "__main__":
    main()
