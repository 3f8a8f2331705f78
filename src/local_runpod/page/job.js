// One job: its progress, and how it ended.

import { toBlob } from "./base64.js";
import { byId, durationOf, element, show } from "./dom.js";
import { isFinal } from "./endpoint.js";
import { shortened, write } from "./json.js";
import { showOutput } from "./result.js";

const WORDS = {
  IN_QUEUE: "Waiting for a worker",
  IN_PROGRESS: "Running",
  COMPLETED: "Done",
  FAILED: "Failed",
  CANCELLED: "Cancelled",
  TIMED_OUT: "Timed out",
};

const STEPS = {
  inputs_ms: "reading inputs",
  models_ms: "models",
  wait_ms: "waiting for ComfyUI",
  execution_ms: "in ComfyUI",
  delivery_ms: "delivery",
};

let previewUrl = null;
let announced = "";

/** What a state is called. */
export const wordOf = (status) => WORDS[status] ?? String(status);

/** Empties the panel for a new job. */
export function clearJob() {
  announced = "";
  show(byId("job-empty"), false);
  show(byId("job-panel"), true);
  show(byId("error"), false);
  show(byId("job-facts"), false);
  show(byId("job-json"), false);
  byId("gallery").replaceChildren();
  byId("warnings").replaceChildren();
  showPreview(null);
  byId("made").textContent = "";
  byId("job-id").textContent = "";
}

/** Shows a job as it is now. */
export function showJob(job) {
  const progress = job.status === "IN_PROGRESS" && job.output ? job.output : {};
  const percent = Math.min(100, Math.max(0, Number(progress.percent) || 0));
  byId("job-id").textContent = job.id ?? "";
  byId("job-state").textContent = wordOf(job.status);
  byId("job-state").dataset.status = job.status;
  show(byId("job-progress"), !isFinal(job));
  byId("job-bar").value = percent;
  byId("job-percent").textContent = job.status === "IN_PROGRESS" ? `${Math.round(percent)} %` : "";
  byId("job-node").textContent = nodeOf(progress);
  byId("made").textContent = Array.isArray(progress.files) ? `Made: ${progress.files.join(", ")}` : "";
  if (progress.preview) showPreview(progress.preview);
  announce(job, percent);
  if (isFinal(job)) showEnd(job);
}

/** Shows an error that is no job's: a request that was refused, a server that is gone. */
export function showError(message, details = []) {
  byId("error-text").textContent = message;
  byId("error-details").replaceChildren(...details.map(detailOf));
  show(byId("error-details"), details.length > 0);
  offerWay(null);
  show(byId("error"), true);
}

/** Offers a way to what is wrong: a function that goes there, or null. */
export function offerWay(goTo, words = "") {
  byId("error-go").onclick = goTo;
  byId("error-go").textContent = words;
  show(byId("error-go"), goTo !== null);
}

function nodeOf(progress) {
  const name = progress.node ? `${progress.node}${progress.node_id ? ` (node ${progress.node_id})` : ""}` : "";
  const part = progress.node_percent ? `, ${Math.round(progress.node_percent)} % of it` : "";
  return name ? name + part : (progress.message ?? "");
}

function showPreview(preview) {
  const image = byId("preview");
  if (previewUrl) URL.revokeObjectURL(previewUrl);
  previewUrl = null;
  if (preview && /^image\/(jpeg|png|webp)$/.test(preview.media_type)) {
    try {
      previewUrl = URL.createObjectURL(toBlob(preview.data, preview.media_type));
      image.src = previewUrl;
    } catch {
      // An odd preview is not worth a word.
    }
  }
  show(image, previewUrl !== null);
}

/** Tells screen readers of each new state and quarter, not of each percent. */
function announce(job, percent) {
  const quarter = job.status === "IN_PROGRESS" ? ` ${Math.floor(percent / 25) * 25} %` : "";
  const text = wordOf(job.status) + quarter;
  if (text !== announced) byId("announcer").textContent = text;
  announced = text;
}

function showEnd(job) {
  showPreview(null);
  const output = job.output ?? {};
  const count = job.status === "COMPLETED" ? showOutput(byId("gallery"), output) : 0;
  if (job.status === "FAILED" || job.status === "TIMED_OUT") {
    const details = Array.isArray(output.details) ? output.details : [];
    const again = output.retryable ? " The same request may succeed when it is sent again." : "";
    const error = job.error ?? "No reason was given.";
    // As a rule, the error tells a single detail already.
    const isTold = details.length === 1 && error.includes(details[0].message);
    showError(error + again, isTold ? [] : details);
  }
  const warnings = Array.isArray(output.errors) ? output.errors : [];
  byId("warnings").replaceChildren(...warnings.map((text) => element("li", {}, String(text))));
  if (job.status === "COMPLETED" && count === 0) {
    byId("gallery").replaceChildren(element("p", { class: "quiet" }, "The workflow saved nothing."));
  }
  showFacts(job, output.timings ?? {});
  byId("job-json-text").textContent = write(shortened(job), 2);
  show(byId("job-json"), true);
}

function showFacts(job, timings) {
  const facts = [
    ["in the queue", job.delayTime],
    ["on the worker", job.executionTime],
    ...Object.entries(STEPS).map(([name, words]) => [words, timings[name]]),
  ].filter(([, value]) => typeof value === "number");
  byId("job-facts").replaceChildren(
    ...facts.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, durationOf(value))),
    ),
  );
  show(byId("job-facts"), facts.length > 0);
}

function detailOf(detail) {
  const where = [
    detail.path,
    detail.node_id && `Node ${detail.node_id}${detail.class_type ? ` (${detail.class_type})` : ""}`,
    detail.input && `input ${detail.input}`,
  ].filter(Boolean);
  const label = where.length > 0 ? element("strong", {}, `${where.join(", ")}: `) : null;
  return element("li", {}, label, String(detail.message ?? write(detail)));
}
