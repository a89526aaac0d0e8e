"use strict";

// Every address is made from where the page was found, because the gateway serves it under a prefix of its own.
// The origin leaves out a name and password that the address may hold: `fetch` refuses those.
const base = new URL("./", location.origin + location.pathname);
const at = (path) => new URL(path, base);
const byId = (id) => document.getElementById(id);
const seconds = (since) => (performance.now() - since) / 1000;

// The way of a request: light the hops up one after another, and tell how long a real one took.
async function showTheWay() {
  await fetch(at("headers"), { cache: "no-store" }); // not measured: it competes with the loading of the page
  const started = performance.now();
  const answer = await fetch(at("headers"), { cache: "no-store" });
  const arrived = await answer.json();
  const took = seconds(started) * 1000;
  byId("headers").textContent = JSON.stringify(arrived.headers, null, 2);
  byId("hop-browser").textContent = `asks ${location.host}`;
  byId("hop-gateway").textContent = `checks the token, takes ${base.pathname} off the path`;
  byId("hop-service").textContent = `is asked for ${arrived.path} and answers ${answer.status}`;
  byId("round-trip").textContent = `One there and back took ${took.toFixed(1)} ms.`;
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
    const hops = [...byId("hops").children];
    const run = [...hops, ...hops.slice(0, -1).reverse()];
    run.forEach((hop, index) => {
      setTimeout(() => hop.classList.add("lit"), index * 140);
      setTimeout(() => hop.classList.remove("lit"), index * 140 + 260);
    });
  }
}

function startClock() {
  const events = new EventSource(at("clock"));
  events.onmessage = (event) => {
    const { count, time } = JSON.parse(event.data);
    byId("clock").textContent = new Date(time).toLocaleTimeString();
    byId("clock-status").textContent = `event ${count + 1} on this stream`;
  };
  events.onerror = () => { byId("clock-status").textContent = "interrupted; the browser connects again"; };
}

function startEcho() {
  const address = at("echo");
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address);
  const sentAt = [];
  const say = (text) => { byId("echo-status").textContent = text; };
  socket.onopen = () => say("open");
  socket.onclose = () => { say("closed; load the page again for a new one"); byId("echo-send").disabled = true; };
  socket.onmessage = (event) => {
    const line = document.createElement("li");
    line.textContent = `\u21a9 ${event.data}  (${(seconds(sentAt.shift()) * 1000).toFixed(1)} ms)`;
    byId("echo-log").prepend(line);
    while (byId("echo-log").children.length > 5) byId("echo-log").lastChild.remove();
  };
  byId("echo-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (socket.readyState !== WebSocket.OPEN) return;
    sentAt.push(performance.now());
    socket.send(byId("echo-text").value);
  });
}

async function download(megabytes) {
  const size = megabytes * 1_000_000;
  const started = performance.now();
  const answer = await fetch(at(`bytes/${size}`), { cache: "no-store" });
  if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
  const reader = answer.body.getReader();
  let received = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    received += value.length;
    byId("bytes-progress").value = received / size;
  }
  const took = seconds(started);
  byId("bytes-status").textContent = `${received.toLocaleString()} bytes in ${took.toFixed(2)} s: ${(received / 1e6 / took).toFixed(0)} MB/s`;
}

function offerDownloads() {
  const buttons = [...document.querySelectorAll("button[data-megabytes]")];
  for (const button of buttons) {
    button.addEventListener("click", async () => {
      buttons.forEach((each) => { each.disabled = true; });
      byId("bytes-progress").value = 0;
      byId("bytes-status").textContent = "on its way";
      try {
        await download(Number(button.dataset.megabytes));
      } catch (error) {
        byId("bytes-status").textContent = `failed: ${error.message}`;
      }
      buttons.forEach((each) => { each.disabled = false; });
    });
  }
}

function showCommands() {
  const token = '-H "Authorization: Bearer $(cat DATA-DIR/admin-token)"';
  byId("commands").textContent = [
    `curl -N ${token} ${at("clock")}`,
    `curl ${token} ${at("bytes/1000000")} | sha256sum`,
    `curl ${token} --data-binary @FILE ${at("sha256")}`,
  ].join("\n");
}

startClock();
startEcho();
offerDownloads();
showCommands();
showTheWay().catch((error) => { byId("round-trip").textContent = `The request failed: ${error.message}`; });
