// The queue and the past jobs of this server, and its workers.

import { byId, durationOf, element, show } from "./dom.js";
import { isFinal } from "./endpoint.js";
import { wordOf } from "./job.js";

const EVERY_MS = 2000;

/**
 * Keeps the list up to date while the page is visible.
 *
 * @param {() => Endpoint} endpoint the one in use now
 * @param {{open: (id: string) => void, cancel: (id: string) => void}} actions
 */
export function watchQueue(endpoint, actions) {
  let shown = "";
  const look = async () => {
    if (document.visibilityState === "hidden") return;
    const used = endpoint();
    try {
      showHealth(await used.health());
      const known = used.isHosted ? [] : await used.jobs();
      // What this page and others only asked is nobody's result.
      const jobs = known.filter((job) => !(job.isDryRun && job.status === "COMPLETED"));
      show(byId("jobs-card"), !used.isHosted);
      const now = JSON.stringify(jobs);
      // Not made anew without need: the keyboard's focus may be in it.
      if (now !== shown) showJobs(jobs, actions);
      shown = now;
    } catch (error) {
      byId("health").textContent = error.status === 401 ? "needs a key" : "not reachable";
      byId("health").dataset.state = "bad";
    }
  };
  look();
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
  return look;
}

function showHealth({ jobs, workers }) {
  const count = workers.ready + workers.running;
  const state = count > 0 ? (workers.running > 0 ? "busy" : "ready") : "starting";
  const waiting = jobs.inQueue > 0 ? `, ${jobs.inQueue} waiting` : "";
  byId("health").textContent = `${count} worker${count === 1 ? "" : "s"} ${state}${waiting}`;
  byId("health").dataset.state = state;
}

function showJobs(jobs, actions) {
  const focused = document.activeElement?.dataset?.key;
  byId("jobs").replaceChildren(...jobs.map((job) => rowOf(job, actions)));
  show(byId("jobs-empty"), jobs.length === 0);
  show(byId("jobs-table"), jobs.length > 0);
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function rowOf(job, actions) {
  const act = (word, call) => {
    const label = `${word} the job of ${timeOf(job)}`;
    const button = element("button", { type: "button", class: "small", onclick: () => call(job.id), "aria-label": label }, word);
    button.dataset.key = `${word} ${job.id}`;
    return button;
  };
  const state = element("span", { class: "state" }, wordOf(job.status));
  state.dataset.status = job.status;
  // The roles are said, since on a phone the style sheet makes boxes of rows and cells.
  const cell = (name, ...children) => element("td", { class: name, role: "cell" }, ...children);
  return element(
    "tr",
    { role: "row" },
    cell("sent", timeOf(job)),
    cell("state-cell", state),
    cell("about", aboutOf(job)),
    cell("took", job.executionTime === undefined ? "" : durationOf(job.executionTime)),
    cell(
      "actions",
      act("Show", actions.open),
      isFinal(job) ? null : act("Cancel", actions.cancel),
    ),
  );
}

const timeOf = (job) => new Date(job.queuedAt).toLocaleTimeString();

function aboutOf(job) {
  if (job.error) return job.error;
  if (job.progress) return `${job.progress.percent ?? 0} % ${job.progress.node ?? ""}`;
  return Object.entries(job.outputs ?? {})
    .map(([kind, count]) => `${count} ${count === 1 ? kind.replace(/s$/, "") : kind}`)
    .join(", ");
}
