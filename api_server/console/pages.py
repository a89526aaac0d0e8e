"""The pages themselves."""

from __future__ import annotations

from typing import Final

from api_server.console.page import Page

__all__ = ["DEVICE", "INVITATION"]

DEVICE: Final = Page(
    title="Approve a device",
    body="""
<section id="ask" hidden>
<p>A device shows a code. Enter it only if you have just started that device yourself, or know who has.</p>
<form id="code-form"><label>Code<input id="code" class="code" autocomplete="off" required maxlength="20"
placeholder="XXXX-XXXX"></label><button>Continue</button></form>
</section>
<section id="decide" hidden>
<p>This device wants to come in. Compare the key with what the device shows.</p>
<dl id="facts"></dl>
<form id="decision"><label>Team<select id="team"></select></label>
<label>Name<input id="name" required maxlength="40"></label>
<button id="approve" type="button" class="yes">Approve</button><button id="deny" type="button">Deny</button></form>
</section>
<section id="done" hidden><p id="outcome"></p></section>
""",
    script="""
const start = attempt(async () => {
  const given = new URLSearchParams(location.search).get("user_code") || "";
  const me = await signedIn("/device" + (given ? "?user_code=" + encodeURIComponent(given) : ""));
  if (me === null) return;
  for (const team of me.teams) {
    if (!team.actions.includes("devices.create")) continue;
    const option = document.createElement("option");
    option.value = team.id;
    option.textContent = team.name;
    byId("team").append(option);
  }
  byId("code").value = given;
  show("ask");
  if (byId("team").options.length === 0) say("You may not create devices in any team.");
});
byId("code-form").addEventListener("submit", attempt(async () => {
  const code = byId("code").value;
  const waiting = await api("GET", "/api/device-approvals?user_code=" + encodeURIComponent(code));
  facts(byId("facts"), [
    ["Code", waiting.user_code], ["Name", waiting.name], ["Key", waiting.key_thumbprint],
    ["Asks from", waiting.address], ["Says it is", waiting.agent || "-"],
    ["Since", new Date(waiting.created_at * 1000).toLocaleString()],
  ]);
  byId("name").value = waiting.name;
  show("decide");
}));
const decide = (decision) => attempt(async () => {
  const body = { user_code: byId("code").value, decision, team: byId("team").value };
  if (decision === "approve") body.name = byId("name").value;
  await api("POST", "/api/device-approvals", body);
  byId("outcome").textContent = decision === "approve"
    ? "Approved. The device comes for its credential within seconds." : "Denied. The device is told so.";
  show("done");
});
// Enter in the field of the name decides nothing.
byId("decision").addEventListener("submit", (event) => event.preventDefault());
byId("approve").addEventListener("click", decide("approve"));
byId("deny").addEventListener("click", decide("deny"));
start();
""",
)

INVITATION: Final = Page(
    title="Join a team",
    body="""
<section id="ask" hidden>
<p>You were invited as <b id="email"></b>. By accepting you become a member of the teams that the invitation names.</p>
<form id="acceptance"><button class="yes">Accept</button></form>
</section>
<section id="done" hidden><p>Welcome. You are a member now of:</p><dl id="facts"></dl></section>
""",
    script="""
// The token is behind the #, which browsers send to nobody; across the sign-in it waits in this tab alone.
const kept = "homeport-invitation " + location.pathname;
const start = attempt(async () => {
  if (location.hash.length > 1) {
    sessionStorage.setItem(kept, location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
  if (!sessionStorage.getItem(kept)) {
    say("The link is incomplete: it ends with # and the token. Ask for it again.");
    return;
  }
  const me = await signedIn(location.pathname);
  if (me === null) return;
  byId("email").textContent = (me.user && me.user.email) || me.name;
  show("ask");
});
byId("acceptance").addEventListener("submit", attempt(async () => {
  const id = location.pathname.split("/").pop();
  const token = sessionStorage.getItem(kept);
  const accepted = await api("POST", "/api/invitations/" + encodeURIComponent(id) + "/accept", { token });
  sessionStorage.removeItem(kept);
  facts(byId("facts"), accepted.teams.map((each) => [each.team, each.role]));
  show("done");
}));
start();
""",
)
