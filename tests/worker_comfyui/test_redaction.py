from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from worker_comfyui.redaction import MASK, MIN_LENGTH, Redactor

KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY=="


def test_a_secret_is_masked_wherever_it_stands() -> None:
    redactor = Redactor([KEY])
    assert redactor.text(f"key={KEY}, again {KEY}") == f"key={MASK}, again {MASK}"


def test_other_texts_stay_as_they_are() -> None:
    assert Redactor([KEY]).text("nothing to see") == "nothing to see"
    assert Redactor().text(KEY) == KEY


@pytest.mark.parametrize("secret", ['pass"word\\1', "pässwörd", "line\nbreak", "it's/a+key", KEY])
def test_a_secret_is_masked_in_the_forms_in_which_it_is_written(secret: str) -> None:
    redactor = Redactor([secret])
    for written in (
        secret,
        json.dumps({"key": secret}),
        json.dumps({"key": secret}, ensure_ascii=False),
        f"https://host/?token={quote(secret, safe='')}",
        f"https://host/?token={quote(secret)}",
        f"{[secret]!r}",
    ):
        masked = redactor.text(written)
        assert MASK in masked
        for part in ("word", "wörd", "break", "a+key", KEY[:13]):
            assert part not in masked or part not in secret


def test_a_secret_inside_a_longer_one_leaves_nothing_of_it() -> None:
    assert (
        Redactor(["secret-123", "secret-123-and-more"]).text("<secret-123-and-more>") == f"<{MASK}>"
    )


def test_a_key_that_was_pasted_with_a_line_s_end_is_masked_without_it() -> None:
    assert Redactor([f" {KEY}\n"]).text(f"'{KEY}'") == f"'{MASK}'"


@pytest.mark.parametrize("short", ["", " ", "a", "x" * (MIN_LENGTH - 1), "  abc   "])
def test_a_text_too_short_for_a_secret_garbles_nothing(short: str) -> None:
    assert Redactor([short]).text("a banana  xxxxxxx abc") == "a banana  xxxxxxx abc"


def test_every_text_inside_a_value_is_masked() -> None:
    value = {
        "list": [KEY, (f"x{KEY}",), {KEY: KEY}],
        "path": Path("/tmp") / KEY,  # noqa: S108  # only a name
        "error": ValueError(KEY),
        "bytes": KEY.encode(),
        5: None,
        "number": 1.5,
        "flag": True,
    }
    masked = Redactor([KEY]).value(value)
    assert KEY not in str(masked)
    assert masked["list"] == [MASK, [f"x{MASK}"], {MASK: MASK}]
    assert masked["path"] == f"/tmp/{MASK}"  # noqa: S108  # only a name
    assert (masked["5"], masked["number"], masked["flag"]) == (None, 1.5, True)


def test_a_job_s_secret_is_known_only_while_the_job_runs() -> None:
    redactor = Redactor([KEY])
    with redactor.knowing(["callers-own-key"]):
        assert redactor.text(f"{KEY} callers-own-key") == f"{MASK} {MASK}"
    assert redactor.text(f"{KEY} callers-own-key") == f"{MASK} callers-own-key"


def test_a_job_s_secret_can_stay_known_for_a_while_after_the_job() -> None:
    redactor = Redactor(linger_s=0.2)
    with redactor.knowing([KEY]):
        pass
    assert redactor.text(KEY) == MASK
    time.sleep(0.25)
    with redactor.knowing([]):
        assert redactor.text(KEY) == KEY


def test_a_secret_of_two_jobs_is_known_until_the_last_ends() -> None:
    redactor = Redactor()
    with redactor.knowing([KEY]):
        with redactor.knowing([KEY]):
            pass
        assert redactor.text(KEY) == MASK
    assert redactor.text(KEY) == KEY


def test_a_secret_is_forgotten_also_when_its_job_fails() -> None:
    redactor = Redactor()
    with pytest.raises(RuntimeError), redactor.knowing([KEY]):
        raise RuntimeError
    assert redactor.text(KEY) == KEY


def test_the_worker_s_own_secret_stays_known_after_a_job_that_used_it_too() -> None:
    redactor = Redactor([KEY])
    with redactor.knowing([KEY]):
        pass
    assert redactor.text(KEY) == MASK


def test_jobs_in_many_threads_do_not_disturb_each_other() -> None:
    redactor = Redactor([KEY])
    failures: list[str] = []

    def job(number: int) -> None:
        own = f"key-of-job-{number:04}"
        for _ in range(200):
            with redactor.knowing([own, "a-shared-key"]):
                masked = redactor.text(f"{own} {KEY} a-shared-key")
            if masked != f"{MASK} {MASK} {MASK}":
                failures.append(masked)

    threads = [threading.Thread(target=job, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert redactor.text("a-shared-key key-of-job-0001") == "a-shared-key key-of-job-0001"
