"""Who calls, and what they may do: the seam between the API and gateway on one side and any source of identity on the
other.

    request ── credentials ──> Authenticator ──> Identity ──> identity.decide(action, team) ──> Decision
               (what was shown)  (who it is)                  (may it?)

Everything that serves a request depends on this module alone. Which role may do what is in `api_server.teams.roles`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum, StrEnum
from typing import Final, Literal, Protocol

import msgspec

from common.ids import TeamId
from common.secret import Secret

__all__ = [
    "INSTALLATION_ACTIONS",
    "PENDING",
    "Action",
    "Authenticator",
    "CallTarget",
    "CookieAuthenticator",
    "Decision",
    "Identity",
    "Pending",
    "Reach",
    "Standing",
]


class Action(StrEnum):
    """What an identity can be allowed to do. Written `resource.action`, as scopes are with a colon."""

    TEAMS_CREATE = "teams.create"
    """In any of one's teams: the new team is none of them."""
    TEAMS_READ = "teams.read"
    TEAMS_EDIT = "teams.edit"
    TEAMS_DELETE = "teams.delete"
    USERS_INVITE = "users.invite"
    USERS_READ = "users.read"
    """In any of one's teams: users are of the installation."""
    MEMBERS_MANAGE = "members.manage"
    """Add, change and remove members who are or become DEVELOPER or VIEWER."""
    MEMBERS_MANAGE_LEADERS = "members.manage_leaders"
    """The same for those who are or become ADMIN or MANAGER."""
    DEVICES_READ = "devices.read"
    DEVICES_CREATE = "devices.create"
    DEVICES_CHANGE = "devices.change"
    """Rename, disable, revoke, delete; issue and revoke its session tokens."""
    DEVICES_CHANGE_OWN = "devices.change_own"
    """The same for what one has created oneself, here as with every `change_own`."""
    PAIRING_TOKENS_READ = "pairing_tokens.read"
    PAIRING_TOKENS_CREATE = "pairing_tokens.create"
    PAIRING_TOKENS_CHANGE = "pairing_tokens.change"
    PAIRING_TOKENS_CHANGE_OWN = "pairing_tokens.change_own"
    API_TOKENS_READ = "api_tokens.read"
    API_TOKENS_CREATE = "api_tokens.create"
    API_TOKENS_CHANGE = "api_tokens.change"
    """Name, describe, rotate, revoke."""
    API_TOKENS_CHANGE_OWN = "api_tokens.change_own"
    SESSIONS_READ = "sessions.read"
    SESSIONS_CLOSE = "sessions.close"
    SESSIONS_CLOSE_OWN = "sessions.close_own"
    """Of the devices that one has created oneself."""
    PROVIDER_TOKENS_READ = "provider_tokens.read"
    """See which providers there are, and which of them one has connected oneself."""
    PROVIDER_TOKENS_CONNECT = "provider_tokens.connect"
    """Connect and disconnect providers for oneself."""
    PROVIDER_TOKENS_USE = "provider_tokens.use"
    """Get an access token of a provider that one has connected; of a program: that its maker has."""
    EVENTS_READ = "events.read"
    GATEWAY_CALL = "gateway.call"
    ROUTES_READ = "routes.read"
    ROUTES_CREATE = "routes.create"
    ROUTES_CHANGE = "routes.change"
    ROUTES_DELETE = "routes.delete"
    UPSTREAM_SECRETS_READ = "upstream_secrets.read"
    """Their names and destinations; nobody may read their values."""
    UPSTREAM_SECRETS_CREATE = "upstream_secrets.create"
    UPSTREAM_SECRETS_CHANGE = "upstream_secrets.change"
    UPSTREAM_SECRETS_CHANGE_OWN = "upstream_secrets.change_own"
    REALMS_READ = "realms.read"
    REALMS_CREATE = "realms.create"
    REALMS_CHANGE = "realms.change"
    """Change and delete how tokens are had from a provider."""
    REALMS_CHANGE_OWN = "realms.change_own"
    REALM_SECRETS_READ = "realm_secrets.read"
    """Which secrets there are; their values are shown to nobody."""
    REALM_SECRETS_CREATE = "realm_secrets.create"
    REALM_SECRETS_CHANGE = "realm_secrets.change"
    REALM_SECRETS_CHANGE_OWN = "realm_secrets.change_own"
    REALM_TOKENS_GET = "realm_tokens.get"
    """Get the tokens of providers."""
    REALM_TOKENS_FLUSH = "realm_tokens.flush"
    """Have one fetched anew: that may end the one that others use."""
    AUDIT_READ = "audit.read"
    LIMITS_READ = "limits.read"
    LIMITS_CHANGE = "limits.change"
    """Of the team's tokens and routes."""
    USAGE_READ = "usage.read"
    WEBHOOKS_READ = "webhooks.read"
    WEBHOOKS_CREATE = "webhooks.create"
    WEBHOOKS_CHANGE = "webhooks.change"
    WEBHOOKS_CHANGE_OWN = "webhooks.change_own"
    METRICS_READ = "metrics.read"
    USERS_DISABLE = "users.disable"
    AUDIT_READ_INSTALLATION = "audit.read_installation"
    """What concerns no team: sign-ins, users, the installation itself."""
    LIMITS_CHANGE_INSTALLATION = "limits.change_installation"
    """The defaults, and what a team may use in all."""


INSTALLATION_ACTIONS: Final = frozenset(
    {
        Action.METRICS_READ,
        Action.USERS_DISABLE,
        Action.AUDIT_READ_INSTALLATION,
        Action.LIMITS_CHANGE_INSTALLATION,
    }
)
"""Actions that concern the whole installation, and no team."""


class Decision(Enum):
    """Why an action is allowed or not; each maps to one answer."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    """403: the identity is of the team, and may not do this there."""
    UNKNOWN_TEAM = "unknown_team"
    """404, as if nothing existed: the identity has nothing to do with the team."""


class CallTarget(Protocol):
    """What a call through the gateway goes to, as far as rights look at it."""

    @property
    def team(self) -> TeamId:
        """Whose it is."""
        ...

    @property
    def device(self) -> str | None:
        """Id or name of the device, as the caller names it; None for several, or none."""
        ...

    @property
    def name(self) -> str | None:
        """Of the route; None where a device is called by its own path or host."""
        ...

    @property
    def tags(self) -> frozenset[str]:
        """Of the route."""
        ...


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What one may call through the gateway, for an identity that may not call everything of its teams."""

    routes: frozenset[str] = frozenset()
    """Names of routes."""
    tags: frozenset[str] = frozenset()
    """Of routes: one is enough."""
    devices: frozenset[str] = frozenset()
    """Ids or names of devices, by their own path or host: the very word that stands there."""

    def covers(self, target: CallTarget) -> bool:
        """Whether `target` is among it."""
        if target.name is None:
            return target.device in self.devices
        return target.name in self.routes or not self.tags.isdisjoint(target.tags)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a request, and everything that they may do, so that a decision never waits."""

    kind: Literal["token", "user", "service"]
    id: str
    """Stable and unique within `kind`; safe to log."""
    name: str
    """For people."""
    teams: Mapping[TeamId, frozenset[Action]]
    """The teams that the identity belongs to, and what it may do in each."""
    installation: frozenset[Action] = frozenset()
    """What it may do that concerns no team."""
    reach: Reach | None = None
    """What it may call through the gateway; None: whatever `GATEWAY_CALL` allows."""

    def decide(self, action: Action, team: TeamId | None) -> Decision:
        """Whether the identity may do `action` in `team`; None for an action that concerns no team."""
        if team is None:
            return Decision.ALLOWED if action in self.installation else Decision.FORBIDDEN
        allowed = self.teams.get(team)
        if allowed is None:
            return Decision.UNKNOWN_TEAM
        return Decision.ALLOWED if action in allowed else Decision.FORBIDDEN

    def decide_call(self, target: CallTarget) -> Decision:
        """Whether the identity may call `target` through the gateway."""
        allowed = self.teams.get(target.team)
        if allowed is None:
            return _UNKNOWN_TEAM
        if _CALL in allowed and (self.reach is None or self.reach.covers(target)):
            return _ALLOWED
        return _FORBIDDEN

    def may(self, action: Action, team: TeamId | None) -> bool:
        """Whether `decide` says `ALLOWED`."""
        return self.decide(action, team) is Decision.ALLOWED

    def may_change(self, any_of_them: Action, own: Action, team: TeamId, owner: tuple[str, str]) -> bool:
        """Whether the identity may change one thing of a team: whosever it is, or because it has created it itself.

        Args:
            any_of_them: the action for all things of that kind.
            own: the action for one's own.
            team: that the thing belongs to.
            owner: `kind` and `id` of the identity that created it.
        """
        return self.may(any_of_them, team) or (owner == (self.kind, self.id) and self.may(own, team))


# A member of an enum is found by a descriptor, which costs more than a look into the module.
_CALL: Final = Action.GATEWAY_CALL
_ALLOWED, _FORBIDDEN, _UNKNOWN_TEAM = Decision


class Pending(Enum):
    """The type of `PENDING`."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING
"""`authenticate_nowait` cannot tell without waiting: await `authenticate`."""


class CookieAuthenticator(Protocol):
    """A source of identity for people's browsers."""

    async def authenticate_cookies(self, header: str) -> Identity | None:
        """Whose session the cookies of a request show; None when they show none that holds.

        Args:
            header: all `Cookie` lines, joined by `; `.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...


class Standing(Protocol):
    """Tells whether those who were identified before still stand."""

    async def identities(self, ids: Collection[str], now: float) -> Mapping[str, Identity]:
        """Those of the API tokens that may still be used, by id, with what they may do now.

        Args:
            ids: of tokens.
            now: seconds since the Unix epoch.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...


class Authenticator(Protocol):
    """A source of identity."""

    def authenticate_nowait(self, credential: Secret, *, address: str) -> Identity | Pending | None:
        """Who shows `credential`, if that is known without waiting; never blocks.

        Args:
            credential: as `credentials.presented` found it.
            address: of the client, without the port: wrong credentials are counted against it.

        Returns:
            The identity; `PENDING` when only `authenticate` can tell; None when the credential is nobody's.

        Raises:
            AddressNotAllowedError: it may not be used from this address.
            TooManyAttemptsError: it is nobody's, and too many from this address were; with `retry_after`.
        """
        ...

    async def authenticate(self, credential: Secret, *, address: str) -> Identity | None:
        """Who shows `credential`; None when it is nobody's.

        Raises:
            AddressNotAllowedError: it may not be used from this address.
            DatabaseError: it cannot be told.
            TooManyAttemptsError: it is nobody's, and too many from this address were; with `retry_after`.
        """
        ...
