"""The pages of the provider for development: plain HTML, no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape

from homeport.dev_idp.people import DevPerson
from homeport.dev_idp.provider import DevSession

__all__ = ["home_page", "message_page", "policy", "sign_in_page"]

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 3rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
.note { border: 1px solid var(--line); border-left: .3rem solid #c77700; border-radius: .3rem; padding: .5rem .8rem;
  font-size: .9rem; }
button { font: inherit; padding: .5rem .9rem; border: 1px solid var(--line); border-radius: .4rem; cursor: pointer; }
.person button { width: 100%; text-align: left; margin: .2rem 0; }
.mail { opacity: .7; }
label { display: block; margin: .6rem 0; }
input { font: inherit; width: 100%; box-sizing: border-box; padding: .4rem .6rem; }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_NOTE = (
    '<p class="note">This is a provider for development: it asks for no password, and is reachable from this machine '
    "alone. Set <code>oidc_issuer</code> before anybody else uses this Homeport.</p>"
)


def policy(form_target: str = "") -> str:
    """`Content-Security-Policy` of a page.

    Args:
        form_target: origin to which its form leads in the end; Chromium applies `form-action` to redirects as well.
    """
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self' {form_target}".rstrip()
    )


def sign_in_page(request: Mapping[str, str], people: Iterable[DevPerson]) -> str:
    """Who are you?"""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in request.items()
    )
    parts = ["<h1>Sign in to Homeport</h1>", _NOTE]
    parts += [
        f'<form class="person" method="post" action="/authorize">{hidden}'
        f'<button name="subject" value="{escape(person.subject)}">{escape(person.name)} '
        f'<span class="mail">{escape(person.email)}</span></button></form>'
        for person in people
    ]
    parts.append(
        f'<form method="post" action="/authorize">{hidden}'
        '<label>Name <input name="name" required maxlength="100" autocomplete="name" autofocus></label>'
        '<label>E-mail <input name="email" type="email" required maxlength="254" autocomplete="email"></label>'
        "<button>Sign in</button></form>"
    )
    return _page("Sign in to Homeport", parts)


def home_page(sessions: Iterable[DevSession]) -> str:
    """Who is signed in, each with a button that signs them out from here, by the back channel."""
    parts = ["<h1>Provider for development</h1>", _NOTE, "<h2>Signed in</h2>"]
    rows = [
        f'<form class="person" method="post" action="/sign-out"><button name="sid" value="{escape(session.sid)}">'
        f"Sign out {escape(session.person.name)} "
        f'<span class="mail">{escape(session.person.email)}</span></button></form>'
        for session in sessions
    ]
    return _page("Provider for development", [*parts, *(rows or ["<p>Nobody.</p>"])])


def message_page(title: str, text: str) -> str:
    """A sentence."""
    return _page(title, [f"<h1>{escape(title)}</h1>", f"<p>{escape(text)}</p>", _NOTE])


def _page(title: str, parts: Iterable[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>'
        + "\n".join(parts)
        + "</body></html>\n"
    )
