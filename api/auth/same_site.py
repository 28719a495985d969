"""Same-site checks: pages of other sites must not use the API through a person's browser."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from flask import Request

from api.http.problem_types import ProblemType
from api.http.problems import RequestError

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE: Final = frozenset({"same-origin", "none"})  # none: the person typed the address


def reject_cross_site(request: Request, *, needs_proof: bool = False) -> None:
    """Reject a request that changes something if a page of another site sent it.

    Args:
        request: the request.
        needs_proof: whether to reject a request as well if the browser does not send the page's site.

    Raises:
        RequestError: 403.
    """
    if request.method in _SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:  # Browsers send it over https and to localhost.
        is_own = site in _SAME_SITE
    elif origin is not None:
        is_own = origin in {f"http://{request.host}", f"https://{request.host}"}  # a proxy may end the https
    else:
        is_own = not needs_proof
    if not is_own:
        raise RequestError(
            ProblemType.CROSS_SITE_REQUEST,
            "A page of another site sent this request; use this server's own page, or an API key.",
        )


def reject_foreign_host(request: Request) -> None:
    """Reject a request whose `Host` is not a name of this machine.

    Another site could point its own name here, so that its page would be one of ours to the browser.

    Raises:
        RequestError: 403.
    """
    if not _is_own_name(request.host):
        raise RequestError(
            ProblemType.FOREIGN_HOST,
            "Without API keys this server accepts only this machine's own names, such as "
            "http://127.0.0.1 or http://localhost. Make a key to use others: wastestream keys create.",
        )


@lru_cache(maxsize=64)  # for every upload, nearly always the same
def _is_own_name(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
