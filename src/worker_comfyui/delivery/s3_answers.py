"""What an S3 service answered, or why it did not, in one sentence that says what to do."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from worker_comfyui.hosts import connections
from worker_comfyui.hosts.bucket_location import Location
from worker_comfyui.hosts.public import NotPublic
from worker_comfyui.wording import cut

MAX_MESSAGE = 200
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"})

_REDIRECT = "the bucket is elsewhere: check the address and the region (BUCKET_REGION)"
_HINTS = {
    "AccessDenied": "the key needs the permission s3:PutObject for this bucket",
    "AllAccessDisabled": "the bucket is locked by its provider",
    "NoSuchBucket": "check the bucket's name and the address",
    "404": "check the bucket's name and the address",
    "SignatureDoesNotMatch": "check the secret key, and the region (BUCKET_REGION)",
    "InvalidAccessKeyId": "check the access key",
    "AuthorizationHeaderMalformed": "check the region (BUCKET_REGION)",
    "PermanentRedirect": _REDIRECT,
    "301": _REDIRECT,
    "302": _REDIRECT,
    "307": _REDIRECT,
    "IllegalLocationConstraintException": "the bucket is in another region: check the address",
    "RequestTimeTooSkewed": "the worker's clock is wrong",
    "QuotaExceeded": "the bucket is full",
    "EntityTooLarge": "the file is too large for this service",
}


class BucketFailed(Exception):
    """A bucket took far longer than it may; the message says with what."""


def is_transient(error: BaseException) -> bool:
    """Tell whether another attempt may help."""
    if isinstance(error, ClientError):
        return _status(error) in _TRANSIENT_STATUS or _code(error) in _TRANSIENT_CODES
    return isinstance(error, connections.FAILURES) and connections.is_transient(error)


def reason(error: BaseException, location: Location) -> str:
    """Explain a failure, with the service's own answer."""
    if isinstance(error, ClientError):
        text = _answered(error)
    elif isinstance(error, connections.FAILURES):
        text = connections.reason(error)
    elif isinstance(error, BotoCoreError):
        text = f"cannot be asked: {type(error).__name__}"
    elif isinstance(error, ResponseParserError):
        text = "answered something that is no answer of an S3 service"
    elif isinstance(error, BucketFailed):
        text = str(error)
    elif isinstance(error, NotPublic):
        text = f"cannot be used: {error}"
    else:
        text = f"failed: {type(error).__name__}"
    text = f"the bucket {cut(location.bucket)!r} at {cut(location.host, MAX_MESSAGE)} {text}"
    return " ".join(text.split())


def _answered(error: ClientError) -> str:
    code = _code(error)
    message = _error(error).get("Message")
    message = message.strip().rstrip(".") if isinstance(message, str) else ""
    status = _status(error)
    text = f"answered {cut(code)}" if code else f"answered HTTP {status}, without a reason"
    if code and message:
        text += f": {cut(message, MAX_MESSAGE)}"
    hint = _HINTS.get(code) or _HINTS.get(str(status))
    return f"{text}; {hint}" if hint else text


def _error(error: ClientError) -> dict[str, Any]:
    found: Any = error.response.get("Error")
    return found if isinstance(found, dict) else {}


def _code(error: ClientError) -> str:
    code = _error(error).get("Code")
    return code.strip() if isinstance(code, str) else ""


def _status(error: ClientError) -> int:
    status: Any = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else 0
