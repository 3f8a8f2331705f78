"""What an answer that is no file means, as a sentence that says what to do. Pure.

The hub's headers: huggingface_hub 2.4 `hf_raise_for_status`. Civitai's refusals: its public
source, and what its users' tools saved in place of models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from urllib.parse import urlsplit

from worker_comfyui.models.transfer.errors import Refused, Transient
from worker_comfyui.models.transfer.sources import HUB, Source
from worker_comfyui.models.transfer.wording import shown, status

# From 520 on they are Cloudflare's, about a server behind it.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
MAX_WAIT_S = 300.0
"""The hub counts requests over five minutes."""
TOKENS_PAGE = f"{HUB}/settings/tokens"


@dataclass(frozen=True, slots=True)
class Hop:
    """One answer.

    Attributes:
        url: Whom it is from.
        status: Its HTTP status.
        headers: Its headers, by name in any case.
        is_hub: Whether it is the Hugging Face hub itself.
        is_civitai: Whether it is Civitai itself.
        had_token: Whether the request carried a token.
    """

    url: str
    status: int
    headers: Message
    is_hub: bool = False
    is_civitai: bool = False
    had_token: bool = False


def refusal(hop: Hop, source: Source) -> Exception:
    """Return what to raise for an answer that is an error."""
    if hop.status in TRANSIENT:
        return Transient(f"{shown(hop.url)} answered {status(hop.status)}", wait(hop.headers))
    if hop.is_hub and source.hub:
        return Refused(_hub(hop, source.hub))
    if hop.is_civitai:
        return Refused(_civitai(hop))
    return Refused(_other(hop, source))


def web_page(hop: Hop, source: Source) -> Refused:
    """Return what to raise for a page for people: a login, a warning, an error."""
    if hop.is_civitai or source.civitai:
        return Refused(_civitai(hop))
    return Refused(
        f"{shown(source.url)} gives a web page (a login, a warning or an error), not a file: take "
        "the link of the file itself, one that opens without a login"
    )


def is_web_page(hop: Hop) -> bool:
    """Tell whether the answer is for people or programs to read, and no file."""
    kind = hop.headers.get("Content-Type") or ""
    path = urlsplit(hop.url).path
    is_login = hop.is_civitai and path.startswith("/login")
    return is_login or kind.split(";")[0].strip().lower() in {"text/html", "application/xhtml+xml"}


def wait(headers: Message) -> float | None:
    """Return the seconds that an answer asks to wait, within bounds.

    Sources: RFC 9110, 10.2.3; https://huggingface.co/docs/hub/rate-limits (`RateLimit`).
    """
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return min(float(text[:9]), MAX_WAIT_S)
    limit = headers.get("RateLimit") or ""
    left, seconds = re.search(r"\br=(\d{1,9})", limit), re.search(r"\bt=(\d{1,9})", limit)
    if left and seconds and int(left[1]) == 0:
        return min(float(seconds[1]), MAX_WAIT_S)
    return None


def _other(hop: Hop, source: Source) -> str:
    asked, answering = urlsplit(source.url).netloc, urlsplit(hop.url).netloc
    if hop.status in {401, 403} and answering != asked:
        return (
            f"{shown(source.url)}: {answering}, which delivers the file, refused the link that "
            f"{asked} gave ({status(hop.status)}). The token and the terms are right: check "
            "the machine's clock, and whether its region or network is barred, then try again"
        )
    if hop.status in {401, 403}:
        return (
            f"{shown(hop.url)} answered {status(hop.status)}: the file needs a login, or the link "
            "has expired; take a link that anyone can open, or a fresh one"
        )
    if hop.status in {404, 410}:
        return f"{shown(hop.url)} is not there ({status(hop.status)}): correct the URL"
    return f"{shown(hop.url)} answered {status(hop.status)} instead of the file"


def _hub(hop: Hop, named: tuple[str, str, str]) -> str:
    repository, revision, path = named
    page = f"{HUB}/{repository}"
    file = f"{repository}: {path}" if path else repository
    code = hop.headers.get("X-Error-Code") or ""
    said = (hop.headers.get("X-Error-Message") or "")[:200]
    if code == "RevisionNotFound":
        return f"{file}: the hub does not have the revision {revision}; see {page}/commits"
    if code == "EntryNotFound":
        return f"{file} is not on the hub; see {page}/tree/{revision}"
    if "invalid credentials" in said.lower() or (hop.status == 401 and hop.had_token and not code):
        return (
            f"{file}: the hub does not know the token in HF_TOKEN, which makes it refuse public "
            f"files too: make a new one at {TOKENS_PAGE}, or unset it"
        )
    # ComfyUI's editor takes 451 for gated as well.
    if code == "GatedRepo" or hop.status == 451:
        return f"{file} {_gated(hop, page)}"
    if code == "RepoNotFound" or hop.status in {401, 404}:
        private = "your HF_TOKEN may not read it" if hop.had_token else "HF_TOKEN is not set"
        return f"{file} is not on the hub: no such repository, or it is private and {private}"
    return f"{file}: the hub refused it ({status(hop.status)}{f': {said}' if said else ''})"


def _gated(hop: Hop, page: str) -> str:
    if hop.had_token:
        return (
            f"was refused ({hop.status}): accept the terms at {page} with the account that "
            f"HF_TOKEN belongs to, and give the token the right to read gated repositories"
        )
    return (
        f"needs a token: accept the terms at {page}, make a read token at {TOKENS_PAGE}, and set "
        "HF_TOKEN (for an image: the build secret HF_TOKEN, see docs/deployment.md)"
    )


def _civitai(hop: Hop) -> str:
    if hop.status in {404, 410}:
        return f"{shown(hop.url)} is not there ({status(hop.status)}): correct the version's number"
    if hop.status == 451:
        return f"{shown(hop.url)}: Civitai does not serve this machine's region (451)"
    if hop.had_token:
        return (
            f"{shown(hop.url)}: Civitai refused the file ({hop.status}): CIVITAI_TOKEN is wrong or "
            "expired, or its account may not have this version (early access, or withdrawn)"
        )
    return (
        f"{shown(hop.url)}: Civitai wants a login for this file: make a key in your account's "
        "settings there, and set CIVITAI_TOKEN"
    )
