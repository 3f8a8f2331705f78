from __future__ import annotations

from pathlib import Path

from worker_comfyui.volume.walk import Budget, files


def names(root: Path, budget: Budget | None = None) -> list[str]:
    return sorted(path for path, _ in files(root, budget or Budget(entries=1000, seconds=10)))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_are_found_at_any_depth_those_near_the_root_first(tmp_path: Path) -> None:
    touch(tmp_path / "a/b/c/deep", tmp_path / "a/near", tmp_path / "top")
    found = [path for path, _ in files(tmp_path, Budget(entries=100, seconds=10))]
    assert found == ["top", "a/near", "a/b/c/deep"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "outside/file", tmp_path / "root/own")
    (tmp_path / "root/link").symlink_to(tmp_path / "outside")
    (tmp_path / "root/loop").symlink_to(tmp_path / "root")
    assert names(tmp_path / "root") == ["link/file", "own"]


def test_folders_without_models_are_not_entered(tmp_path: Path) -> None:
    touch(tmp_path / "venv/lib/a", tmp_path / ".git/a", tmp_path / ".cache/a", tmp_path / "b")
    assert names(tmp_path) == [".cache/a", "b"]


def test_a_walk_ends_with_its_budget_of_entries(tmp_path: Path) -> None:
    touch(*(tmp_path / f"{number}" for number in range(50)))
    budget = Budget(entries=20, seconds=10)
    assert len(names(tmp_path, budget)) <= 20
    assert budget.is_spent()
    assert budget.seen == 20


def test_a_walk_ends_with_its_budget_of_time(tmp_path: Path) -> None:
    touch(tmp_path / "a")
    assert names(tmp_path, Budget(entries=20, seconds=-1)) == []


def test_what_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert names(tmp_path / "gone") == []
    touch(tmp_path / "file")
    assert names(tmp_path / "file") == []
