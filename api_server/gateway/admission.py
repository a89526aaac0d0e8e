"""What is decided about a request before it goes on its way, in this order:

    another site makes it      refused, unless the route trusts the origin
    a browser comes back       that has signed in: it gets its session, and is sent to the page that it wanted
    length, route, CORS        a preflight is answered by what the route says
    identity, access           who asks, and whether it may call services there
    inspection, visit          whoever watches is told
    limits                     a ticket, which the client's connection holds
    a missing slash            the browser is sent to the path that has it

`Admission.decide_nowait` decides all that if nothing has to be waited for, which is so for nearly every request, and
else says `PENDING`; then `Admission.decide` goes through what is left. Neither writes to the client: what comes out is
the route, a `Reply`, or an error, and the exchange gives the answer.

What was found stays in the `Admission` whatever comes of it, because an answer tells of it: a 401 names the realm of
the route, a page of another origin may read an error by its CORS lines, and a recording that has begun is ended.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from api_server.auth.interfaces import PENDING, Identity, Pending
from api_server.gateway.browsers import ticket_of, to_sign_in
from api_server.gateway.core import GatewayCore
from api_server.gateway.cors import CorsPolicy, read_preflight
from api_server.gateway.errors import CorsRefusedError, CrossSiteError
from api_server.gateway.governor import Ticket, check_size
from api_server.gateway.inspection import Recording
from api_server.gateway.problems import browser_response, preflight_response, redirect_response
from api_server.gateway.replies import Reply
from api_server.gateway.requests import RequestHead
from api_server.gateway.routes import Route
from api_server.gateway.targets import Target
from common.errors import HomeportError

if TYPE_CHECKING:
    from api_server.gateway.connection import ClientConnection

__all__ = ["Admission"]


class Admission:
    """Whether one request may go on its way, and where to.

    Args:
        core: the gateway's.
        connection: the client's; it is told whose request it is, and holds the ticket.
        head: of the request.
    """

    __slots__ = ("_connection", "_core", "_head", "_ticket", "cors", "recording", "route")

    def __init__(self, core: GatewayCore, connection: ClientConnection, head: RequestHead) -> None:
        self._core = core
        self._connection = connection
        self._head = head
        self._ticket: str | None = None
        """Of a browser that comes back from signing in."""
        self.route: Route | None = None
        """That the request takes, if it may."""
        self.cors: bytes | None = None
        """What the route says about CORS, in the place of the service; None where that says it itself."""
        self.recording: Recording | None = None
        """Of a route that is inspected, until it is ended."""

    def decide_nowait(self) -> Route | Reply | HomeportError | Pending:
        """Decide without waiting.

        Returns:
            The route that the request may go; or the answer to it; or the error that is kept with its fields, which is
            not raised, because it would gather the frames of each request that it refuses; or `PENDING`, when only
            `decide` can tell.

        Raises:
            HomeportError: the request is refused.
        """
        core, head = self._core, self._head
        if head.refusal is not None and not self._trusts_origin():
            return head.refusal
        if core.browsers is not None and head.caller.credential is None:
            self._ticket = ticket_of(head)
            if self._ticket is not None:
                return PENDING
        check_size(head.fields.framing.length or 0, core.limits.max_body_bytes, None)
        self.route = core.router.route(head.fields.host, head.target.path)
        if self.route is not None and self.route.target.cors is not None:
            reply = self._apply(self.route.target.cors)
            if reply is not None:
                return reply
        identity = core.gatekeeper.identify_nowait(head, self.route)
        if identity is PENDING:
            return PENDING
        route = self._let_in(identity)
        if core.governor is not None:
            ticket = core.governor.admit_nowait(identity, route.target, head)
            if ticket is False:
                return PENDING
            self._hold(ticket)
        return route if route.path else self._check_slash(route)

    async def decide(self) -> Route | Reply:
        """Decide what `decide_nowait` could not.

        Returns:
            The route that the request may go, or the answer to it.

        Raises:
            HomeportError: the request is refused.
        """
        core, head = self._core, self._head
        if self._ticket is not None and core.browsers is not None:
            redirect = await core.browsers.finish(ticket=self._ticket, cookies=head.caller.cookies)
            return Reply(303, partial(browser_response, redirect))
        identity = await core.gatekeeper.identify(head, self.route)
        route = self._let_in(identity)
        if core.governor is not None:
            self._hold(await core.governor.admit(identity, route.target, head))
        return route if route.path else self._check_slash(route)

    def to_sign_in(self) -> Reply | None:
        """Where a person's browser is sent that is not known; None for any other request, which gets the error."""
        browsers, route = self._core.browsers, self.route
        if browsers is None or route is None:
            return None
        redirect = to_sign_in(browsers, self._head, route.target)
        return Reply(303, partial(browser_response, redirect)) if redirect is not None else None

    def end_recording(self, *, status: int = 0, code: str | None = None) -> None:
        """The request is over, as far as whoever inspects it is concerned; the arguments are those of `Recording`."""
        recording, self.recording = self.recording, None
        if recording is not None:
            recording.end(status=status, code=code)

    def _trusts_origin(self) -> bool:
        """Whether what forbids the request is that another site makes it, whose pages the route trusts."""
        head = self._head
        if not isinstance(head.refusal, CrossSiteError):
            return False
        route = self._core.router.route(head.fields.host, head.target.path)
        return route is not None and route.target.cors is not None and route.target.cors.trusts(head.fields.origin)

    def _apply(self, cors: CorsPolicy) -> Reply | None:
        """Do what the route says about pages of other origins; the answer, if the request is for that."""
        self.cors = cors.lines(self._head.fields.origin)
        asked = read_preflight(self._head)
        if asked is None:
            return None
        leave = cors.answer(asked)
        if leave is None:
            raise CorsRefusedError("the route does not allow this to pages of that origin")
        return Reply(204, partial(preflight_response, leave))

    def _let_in(self, identity: Identity) -> Route:
        """It is known who asks."""
        self._connection.caller = identity
        route = self._core.gatekeeper.admit(identity, self.route)
        self._connection.target = route.target
        if route.target.inspect or self._head.caller.cookies:
            self._watch(route.target, identity)
        return route

    def _watch(self, target: Target, identity: Identity) -> None:
        """The route is inspected, or it is a person's browser that asks, whose session may end."""
        core, cookies = self._core, self._head.caller.cookies
        if cookies and core.visits is not None:
            self._connection.visit(core.visits, cookies, target)
        if target.inspect and core.recorder is not None and self.recording is None:
            self.recording = core.recorder.begin(target, self._head, identity)

    def _hold(self, ticket: Ticket | bool) -> None:
        """The governor lets the request pass."""
        if isinstance(ticket, Ticket):
            self._connection.hold_ticket(ticket)

    def _check_slash(self, route: Route) -> Route | Reply:
        """Send whoever asks for a page to the path with a slash: its relative links work only below that."""
        head, target = self._head, route.target
        if target.raw or head.method not in (b"GET", b"HEAD") or head.fields.upgrade:
            return route
        query = b"" if head.target.query is None else b"?" + head.target.query
        return Reply(308, partial(redirect_response, target.prefix + b"/" + query))
