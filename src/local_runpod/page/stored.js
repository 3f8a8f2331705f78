// The workflows that are stored on the worker, to pick one by its name.

import { byId, element, show } from "./dom.js";
import { wordOf } from "./job.js";

const REQUEST = '{"input": {"workflows": "list"}}';
const FILTER_FROM = 10; // names; fewer are seen at a glance

/**
 * Lists the names whenever the list is opened: only a job can ask, which may start a worker.
 *
 * @param {() => Endpoint} endpoint the one in use now
 * @param {(name: string) => void} pick
 * @returns {() => void} closes the list, and forgets what another endpoint has
 */
export function watchStored(endpoint, pick) {
  const list = byId("stored");
  let asking = new AbortController();
  const close = () => {
    asking.abort();
    list.open = false;
  };
  list.addEventListener("toggle", () => {
    if (!list.open) return;
    asking.abort();
    asking = new AbortController();
    ask(endpoint(), asking.signal, (name) => {
      list.querySelector("summary").focus();
      close();
      pick(name);
    });
  });
  byId("stored-filter").addEventListener("input", filter);
  return close;
}

async function ask(endpoint, signal, pick) {
  showNames([], pick);
  say("Asking the worker …");
  try {
    const job = await endpoint.ask(REQUEST, (now) => say(`${wordOf(now.status)} …`), signal);
    if (job === null) return; // closed, or opened anew
    const names = job.output?.workflows?.names;
    if (!Array.isArray(names)) {
      say(`This worker does not tell what it has stored: ${job.error ?? "its answer has no names"}`, true);
      return;
    }
    showNames(names.map(String), pick);
    say(names.length > 0 ? "" : emptiness(job.output.workflows.folders));
  } catch (error) {
    if (!signal.aborted) say(error.message, true);
  }
}

function emptiness(folders) {
  const places = Array.isArray(folders) ? folders.join(" and ") : "";
  return `None are stored${places ? `. The worker looks for JSON files in ${places}` : ""}.`;
}

function say(text, isProblem = false) {
  byId("stored-state").textContent = text;
  byId("stored-state").classList.toggle("problem", isProblem);
}

function showNames(names, pick) {
  const items = names.map((name) =>
    element("li", {}, element("button", { type: "button", class: "small", onclick: () => pick(name) }, name)),
  );
  byId("stored-names").replaceChildren(...items);
  byId("stored-filter").value = "";
  show(byId("stored-filter-field"), names.length >= FILTER_FROM);
}

function filter() {
  const wanted = byId("stored-filter").value.trim().toLowerCase();
  let found = 0;
  for (const item of byId("stored-names").children) {
    const fits = item.textContent.toLowerCase().includes(wanted);
    show(item, fits);
    found += fits ? 1 : 0;
  }
  say(found > 0 ? "" : "No name has this in it.");
}
