from __future__ import annotations

import secrets
import socket

import pytest

from worker_comfyui.comfyui.process.port import LOWEST, OUTGOING, free_port


def test_nobody_listens_on_it_and_no_outgoing_connection_gets_it() -> None:
    for _ in range(50):
        port = free_port()
        assert LOWEST <= port < OUTGOING
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_one_that_somebody_has_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        draws = [listener.getsockname()[1] - LOWEST, free - LOWEST]
        monkeypatch.setattr(secrets, "randbelow", lambda _: draws.pop(0))
        assert free_port() == free


def test_where_all_are_taken_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        taken = listener.getsockname()[1] - LOWEST
        monkeypatch.setattr(secrets, "randbelow", lambda _: taken)
        with pytest.raises(OSError, match="in use"):
            free_port()
