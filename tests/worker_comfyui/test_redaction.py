from __future__ import annotations

import base64
import json
import threading
import time
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_comfyui import redaction
from worker_comfyui.redaction import MASK, MAX_LENGTH, MIN_LENGTH, Redactor

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


@pytest.mark.parametrize("before", ["", "a", "ab", "user:"])
@pytest.mark.parametrize("after", ["", "\n", "xyz"])
def test_a_secret_is_masked_in_base64_wherever_it_stands(before: str, after: str) -> None:
    encoded = base64.b64encode(f"{before}{KEY}{after}".encode()).decode()
    masked = Redactor([KEY]).text(f"Basic {encoded}, and more")
    assert MASK in masked
    left = masked.removeprefix("Basic ").removesuffix(", and more").replace(MASK, "")
    assert len(left) <= 4 * (len(before) + len(after)) / 3 + 6


def test_a_secret_is_masked_in_hexadecimal_and_in_json_within_json() -> None:
    redactor = Redactor(['pass"word\\1', KEY])
    assert redactor.text(KEY.encode().hex()) == MASK
    assert redactor.text(KEY.encode().hex().upper()) == MASK
    twice = json.dumps(json.dumps({"key": 'pass"word\\1'}))
    assert "word" not in redactor.text(twice)


@pytest.mark.parametrize("place", range(8, len(KEY) - 8))
def test_a_secret_across_a_line_that_is_split_is_masked_in_both_halves(place: int) -> None:
    line = f"the key is {KEY}, says the node"
    at = line.index(KEY) + place
    redactor = Redactor([KEY])
    assert redactor.text(line[:at]) == f"the key is {MASK}"
    assert redactor.text(line[at:]) == f"{MASK}, says the node"


def test_a_secret_that_was_cut_is_masked() -> None:
    redactor = Redactor([KEY])
    assert redactor.text(f"workflow.{KEY[:15]}...: is wrong") == f"workflow.{MASK}...: is wrong"
    assert redactor.text(KEY[4:20]) == MASK
    assert redactor.text(f"{KEY[:10]} is no secret") == f"{KEY[:10]} is no secret"


def test_the_secrets_of_one_job_are_bounded_in_number_and_length() -> None:
    redactor = Redactor()
    many = (f"secret-number-{number}-of-many" for number in range(290_000))
    started = time.monotonic()
    with redactor.knowing(["x" * (MAX_LENGTH + 1), *islice(many, 1000)]):
        assert time.monotonic() - started < 5
        assert redactor.text("secret-number-5-of-many") == MASK
        line = "a usual line of a log, of some hundred characters, in which no secret stands " * 2
        started = time.monotonic()
        for _ in range(1000):
            assert redactor.text(line) == line
        assert time.monotonic() - started < 5
        large = "x" * 10_000_000
        started = time.monotonic()
        assert redactor.text(large) == large
        assert time.monotonic() - started < 8


def test_a_job_without_secrets_prepares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    redactor = Redactor([KEY])
    monkeypatch.delattr(redaction, "_Masker")
    with redactor.knowing([]):
        assert redactor.text(KEY) == MASK


@given(
    st.lists(st.text(min_size=6, max_size=30), max_size=5),
    st.lists(st.integers(0, 4), max_size=6),
    st.text(max_size=30),
)
def test_no_secret_is_ever_left_in_a_text(
    secrets: list[str], order: list[int], between: str
) -> None:
    redactor = Redactor(secrets)
    known = [secret.strip() for secret in secrets if len(secret.strip()) >= MIN_LENGTH]
    text = between.join(secrets[number] for number in order if number < len(secrets))
    masked = redactor.text(text)
    assert not [s for s in known if s in masked and s not in MASK * 20 and "*" not in s]


@given(
    st.text(alphabet="ab", max_size=60), st.lists(st.text(alphabet="ab", min_size=6), max_size=4)
)
def test_what_is_no_secret_is_left_as_it_is(text: str, secrets: list[str]) -> None:
    redactor = Redactor([f"{secret}c-which-never-comes" for secret in secrets])
    marked = f"<{text}>"
    assert redactor.text(marked) == marked
