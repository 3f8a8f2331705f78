"""Two workers on one ComfyUI folder."""

from __future__ import annotations

from pathlib import Path

from tests.support.worker import running_worker
from tests.support.workflows import color_of, input_image, png, saved_input


def test_two_workers_on_one_comfyui_never_get_each_other_s_pictures(tmp_path: Path) -> None:
    with running_worker(tmp_path) as first, running_worker(tmp_path) as second:
        for shade in range(0, 100, 10):
            colors = ((shade, 0, 0), (0, shade, 0))
            jobs = [
                worker.start(
                    {"workflow": saved_input("photo.png"), "images": [input_image("photo.png", c)]}
                )
                for worker, c in zip((first, second), colors, strict=True)
            ]
            found = tuple(color_of(job.result()["images"][0]) for job in jobs)
            assert found == colors
        assert first.files() == second.files() == []


def test_the_operator_s_input_files_are_there_for_every_job_and_stay(tmp_path: Path) -> None:
    (tmp_path / "input" / "sub").mkdir(parents=True)
    (tmp_path / "input" / "sub" / "example.png").write_bytes(png((7, 8, 9)))
    with running_worker(tmp_path) as worker:
        for _ in range(2):
            result = worker.run({"workflow": saved_input("sub/example.png")})
            assert color_of(result["images"][0]) == (7, 8, 9)
            result = worker.run(
                {
                    "workflow": saved_input("sub/example.png"),
                    "images": [input_image("sub/example.png", (1, 2, 3))],
                }
            )
            assert color_of(result["images"][0]) == (1, 2, 3)
    assert (tmp_path / "input" / "sub" / "example.png").read_bytes() == png((7, 8, 9))
    assert list((tmp_path / "output").iterdir()) == []
