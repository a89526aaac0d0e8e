"""What the pages share: a frame, a style, and the part of the script that speaks to the API.

Script and style are in the page, and named by their hash in its content policy: nothing else runs, nothing is fetched
from elsewhere. Whatever comes from the API is put into the page as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from html import escape

__all__ = ["Page"]

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 3rem auto; padding: 0 1rem; }
input, select, button { font: inherit; padding: .5rem .7rem; border-radius: .4rem; border: 1px solid var(--line); }
input, select { width: 100%; box-sizing: border-box; margin: .2rem 0 1rem; }
input.code { font-family: ui-monospace, monospace; letter-spacing: .15em; text-transform: uppercase; }
button { cursor: pointer; margin-right: .6rem; }
button.yes { font-weight: 600; }
dl { border: 1px solid var(--line); border-radius: .4rem; padding: .8rem 1rem; }
dt { opacity: .7; font-size: .9em; }
dd { margin: 0 0 .6rem; overflow-wrap: anywhere; }
[hidden] { display: none; }
section:focus { outline: none; }
.said { border-left: .25rem solid var(--line); padding: .3rem .8rem; }
"""

_SCRIPT = """
"use strict";
const byId = (id) => document.getElementById(id);
// Whoever has no mouse goes on where the page does: at the first thing that can be used, or at what is to be read.
const show = (id) => {
  for (const part of document.querySelectorAll("main > section")) part.hidden = part.id !== id;
  const section = byId(id);
  section.tabIndex = -1;
  (section.querySelector("input, select, a[href], button") || section).focus();
};
const say = (text) => { byId("said").textContent = text; byId("said").hidden = text === ""; };
const facts = (list, pairs) => {
  list.replaceChildren();
  for (const [name, value] of pairs) {
    const term = document.createElement("dt"), what = document.createElement("dd");
    term.textContent = name;
    what.textContent = value;
    list.append(term, what);
  }
};
const api = async (method, path, body) => {
  const headers = { "X-Homeport-CSRF": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), credentials: "same-origin" });
  const text = await answer.text();
  const content = text === "" ? null : JSON.parse(text);
  if (!answer.ok) throw Object.assign(new Error(content.detail), { code: content.code, status: answer.status });
  return content;
};
const signedIn = async (returnTo) => {
  try {
    return await api("GET", "/api/auth/me");
  } catch (error) {
    if (error.status !== 401) throw error;
    byId("sign-in").href = "/api/auth/login?return_to=" + encodeURIComponent(returnTo);
    show("signed-out");
    return null;
  }
};
const attempt = (work) => async (event) => {
  if (event) event.preventDefault();
  say("");
  try { await work(event); } catch (error) { say(error.message); }
};
"""

_SIGNED_OUT = """<section id="signed-out" hidden>
<p>Sign in first, so that it is known who decides.</p>
<p><a id="sign-in" href="/api/auth/login">Sign in</a></p>
</section>"""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


@dataclass(frozen=True, slots=True)
class Page:
    """A page."""

    title: str
    body: str
    """The sections; markup."""
    script: str
    """What it does, after what all pages share."""

    @property
    def html(self) -> str:
        """The whole of it."""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
            f'<body><h1>{escape(self.title)}</h1>\n<p id="said" class="said" role="alert" hidden></p>\n'
            f"<main>{_SIGNED_OUT}{self.body}</main>\n<script>{self._script}</script></body></html>\n"
        )

    @property
    def policy(self) -> str:
        """Its `Content-Security-Policy`."""
        return (
            f"default-src 'none'; script-src {_hash(self._script)}; style-src {_hash(_STYLE)}; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    @property
    def _script(self) -> str:
        return _SCRIPT + self.script
