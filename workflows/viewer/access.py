"""Access to the viewer: which requests are answered, and the headers of every answer.

Other programs on the machine, and every page that the user's browser shows, can send requests to a
port of 127.0.0.1. A page of another site may even reach it under its own name (DNS rebinding). So
each request needs the token, which only the printed address has, and the viewer's own host name.
"""

import hmac
import secrets
from collections.abc import Mapping

HOST = "127.0.0.1"
"""Address on which the viewer listens: no other machine can reach it."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of the viewer's page: its own scripts only, and no other host."""

REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox allow-scripts allow-modals allow-downloads allow-popups "
    "allow-popups-to-escape-sandbox"
)
"""Content security policy of pages in the folder of results. Their scripts stand in the page. The
sandbox gives them an origin of their own, so that none of them can read or change a review."""

HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer, unless a handler sets others. The address holds the token, so no page
passes it on as a referrer."""


def new_token() -> str:
    """Make the secret part of the viewer's address."""
    return secrets.token_urlsafe(32)


class Access:
    """Rules by which a request is answered or refused.

    Args:
        token: secret part of the address.
        port: port on which the viewer listens.

    Attributes:
        token: secret part of the address.
        port: port on which the viewer listens.
    """

    def __init__(self, token: str, port: int) -> None:
        self.token, self.port = token, port
        self._hosts = {f"{HOST}:{port}", f"localhost:{port}"}
        if port == 80:
            self._hosts |= {HOST, "localhost"}

    @property
    def url(self) -> str:
        """Address of the viewer's page."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def problem(self, path: str, headers: Mapping[str, str], *, writes: bool) -> str | None:
        """Reason why a request is refused; None if it is answered.

        Args:
            path: path of the request, as it was sent.
            headers: headers of the request.
            writes: True if the request changes a review.
        """
        if problem := self.host_problem(headers):
            return problem
        token = path.split("/", 2)[1] if "/" in path else ""
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode()):
            return "the address lacks the token; open the address that noctile view has printed"
        if writes and not self._is_own_page(headers):
            return "only the viewer's own page may save a review"
        return None

    def host_problem(self, headers: Mapping[str, str]) -> str | None:
        """Reason why the host of a request is refused; None if it is the viewer's."""
        if headers.get("Host", "").lower() in self._hosts:
            return None
        return f"the viewer answers under http://{HOST}:{self.port} only"

    def _is_own_page(self, headers: Mapping[str, str]) -> bool:
        """Tell if a request comes from the viewer's page, or from a program that is no browser."""
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
        own = origin is None or origin.lower() in {f"http://{host}" for host in self._hosts}
        return own and site in (None, "same-origin")
