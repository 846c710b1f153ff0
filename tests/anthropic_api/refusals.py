"""The refusals that a script asks for: each fault's status, error and headers.

Refusals that a request has earned belong to `request_checks` and `limits`.
"""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from .errors import ApiError
from .faults import Fault, Misbehaviour

_DAY_SECONDS = 86_400
_HTML_PAGES = {
    Fault.TOO_LARGE_HTML: (413, "413 Request Entity Too Large"),
    Fault.BAD_GATEWAY_HTML: (502, "502 Bad Gateway"),
}
_LIMITED = "This request would exceed your organization's rate limit. Please try again later."
_ERRORS: dict[Fault, tuple[int, str, str | None]] = {
    Fault.RATE_LIMITED: (429, _LIMITED, None),
    Fault.RATE_LIMITED_FLOAT: (429, _LIMITED, None),
    Fault.RATE_LIMITED_DATE: (429, _LIMITED, None),
    Fault.RATE_LIMITED_ABSURD: (429, _LIMITED, None),
    Fault.RATE_LIMITED_BARE: (429, _LIMITED, None),
    Fault.OVERLOADED: (529, "Overloaded", None),
    Fault.SERVER_ERROR: (500, "Internal server error", None),
    Fault.SERVICE_UNAVAILABLE: (503, "Service unavailable", None),
    Fault.GATEWAY_TIMEOUT: (504, "The request timed out while processing", None),
    Fault.REQUEST_TIMEOUT: (408, "Request timeout", None),
    Fault.CONFLICT: (409, "The request conflicts with another one", None),
    Fault.UNAUTHORIZED: (401, "invalid x-api-key", None),
    Fault.FORBIDDEN: (
        403,
        "Your API key does not have permission to use the specified resource",
        None,
    ),
    Fault.NOT_FOUND: (404, "Not found", None),
    Fault.CREDIT_TOO_LOW: (
        400,
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing "
        "to upgrade or purchase credits.",
        None,
    ),
    Fault.USAGE_LIMIT_REACHED: (
        400,
        "You have reached your specified API usage limits. You will regain access on 2027-01-01 "
        "at 00:00 UTC.",
        None,
    ),
    Fault.BILLING: (402, "There is an issue with your billing or payment information.", None),
    Fault.SPEND_LIMIT_REACHED: (
        429,
        "Your organization has reached the monthly usage threshold of its tier.",
        "enforced_spend_limit_reached",
    ),
    Fault.CONTRACT_SPEND_LIMIT_REACHED: (
        429,
        "Your organization has reached the spend limit of its contract.",
        "contract_spend_limit_reached",
    ),
    Fault.ORGANIZATION_ON_HOLD: (
        400,
        "This organization is on hold.",
        "organization_on_hold",
    ),
    Fault.INVALID_REQUEST: (400, "messages.0.content: the request is not valid", None),
}


def html_page(title: str) -> bytes:
    """A page such as a proxy in front of the API sends."""
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1>"
        "</center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
    ).encode()


def page_of(fault: Fault) -> tuple[int, bytes] | None:
    """Status and page of a fault that answers with HTML."""
    if fault not in _HTML_PAGES:
        return None
    status, title = _HTML_PAGES[fault]
    return status, html_page(title)


def error_of(misbehaviour: Misbehaviour) -> ApiError:
    """The error of a fault of the stage REFUSAL."""
    status, message, error_code = _ERRORS[misbehaviour.fault]
    wait = _retry_after(misbehaviour)
    return ApiError(
        status,
        message,
        error_code=error_code,
        headers={} if wait is None else {"retry-after": wait},
    )


def _retry_after(misbehaviour: Misbehaviour) -> str | None:
    fault, seconds = misbehaviour.fault, misbehaviour.retry_after
    if fault is Fault.RATE_LIMITED_ABSURD:
        return str(_DAY_SECONDS)
    if fault is Fault.RATE_LIMITED:
        return f"{1 if seconds is None else seconds:.0f}"
    if fault is Fault.RATE_LIMITED_FLOAT:
        return f"{0.5 if seconds is None else seconds:.3f}"
    if fault is Fault.RATE_LIMITED_DATE:
        moment = datetime.now(UTC) + timedelta(seconds=2 if seconds is None else seconds)
        return format_datetime(moment, usegmt=True)
    # Any other refusal may ask for a wait too.
    return None if seconds is None else f"{seconds:g}"
