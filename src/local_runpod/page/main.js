// The page: a workflow comes in, its inputs become a form, a job runs, its results are shown.

import { byId, element, show } from "./dom.js";
import { Endpoint } from "./endpoint.js";
import { acceptDrops, Form } from "./form.js";
import { clearJob, offerWay, showError, showJob, wordOf } from "./job.js";
import { watchQueue } from "./queue.js";
import { bodyOf, samplesOf } from "./request.js";
import { watchStored } from "./stored.js";
import { Workflow } from "./workflow.js";

let endpoint = new Endpoint();
let workflow = null;
let problems = []; // what the worker says of the workflow before it runs
let understood = false; // the worker has described the workflow: it takes values beside it
let looking = new AbortController(); // ends the wait for a description
let following = null; // ends the following of the job that is shown
let running = null; // the id of the job that is shown, while it is not over

const form = new Form(byId("inputs"), () => {
  showProblems();
  updateSamples();
});
const closeStored = watchStored(() => endpoint, (name) => open(Workflow.stored(name)));
const refreshQueue = watchQueue(() => endpoint, { open: openJob, cancel: cancelJob });

// The endpoint

byId("endpoint-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const isHosted = byId("endpoint-hosted").checked;
  endpoint = new Endpoint(isHosted ? byId("endpoint-id").value.trim() : "", byId("endpoint-key").value);
  byId("endpoint-name").textContent = isHosted ? endpoint.id : "This server";
  byId("endpoint-details").open = false;
  closeStored();
  refreshQueue();
  updateSamples();
  if (workflow) inspect(workflow);
});
for (const choice of document.getElementsByName("where")) {
  choice.addEventListener("change", () => {
    const isHosted = byId("endpoint-hosted").checked;
    show(byId("endpoint-id-field"), isHosted);
    byId("endpoint-id").required = isHosted;
  });
}

// The workflow

byId("workflow-file").addEventListener("change", () => {
  take(byId("workflow-file").files[0]);
  byId("workflow-file").value = ""; // the same file may be taken again
});
acceptDrops(byId("workflow-drop"), take);
byId("example").addEventListener("click", async () => {
  const response = await fetch("page/example.json");
  take(new File([await response.text()], "example.json"));
});
// A file that misses the zone must not replace the page.
for (const name of ["dragover", "drop"]) {
  window.addEventListener(name, (event) => event.preventDefault());
}

async function take(file) {
  if (!file) return;
  try {
    open(await Workflow.fromFile(file));
  } catch (error) {
    sayOfWorkflow(error.message, true);
  }
}

function open(opened) {
  workflow = opened;
  understood = false;
  looking.abort();
  looking = new AbortController();
  form.reset();
  form.show(workflow.plainInputs());
  show(byId("run-card"), true);
  byId("workflow-name").textContent = workflow.name;
  inspect(workflow);
}

/** Has the worker describe the workflow, without running it. */
async function inspect(looked) {
  sayOfWorkflow("Asking the worker what can be set …");
  byId("models").replaceChildren();
  try {
    const options = { overrides: true, live: true, dryRun: true };
    const body = bodyOf(looked, { values: new Map(), files: form.files }, options);
    const tell = (now) => sayOfWorkflow(`Asking the worker what can be set: ${wordOf(now.status).toLowerCase()} …`);
    const job = await endpoint.ask(body, tell, looking.signal);
    if (job !== null && workflow === looked) describe(job);
  } catch (error) {
    if (workflow === looked) sayOfWorkflow(error.message, looked.api === null);
  }
}

function describe(job) {
  const output = job.output ?? {};
  if (output.status === "dry_run") {
    understood = true;
    workflow.api ??= output.workflow;
    form.show(Array.isArray(output.inputs) ? output.inputs : workflow.plainInputs());
    problems = Array.isArray(output.problems) ? output.problems : [];
    form.mark(problems);
    showProblems();
    showModels(output.models);
  } else if (workflow.api) {
    sayOfWorkflow(""); // A worker that knows no dry run: the form is made of the plain values.
  } else {
    sayOfWorkflow(job.error ?? "The worker does not understand this file.", true, output.details);
  }
  updateSamples();
}

/** Shows the problems whose inputs have not been changed since. */
function showProblems() {
  if (!understood) return;
  const left = problems.filter((problem) => !form.isChanged(problem));
  const count = left.length === 1 ? "1 problem" : `${left.length} problems`;
  sayOfWorkflow(left.length > 0 ? `${count}, before it runs:` : "", left.length > 0, left);
}

function showModels(models) {
  const items = (Array.isArray(models) ? models : []).map((model) =>
    element("li", {}, `Model ${model.name ?? model}`, model.status ? `: ${model.status}` : ""),
  );
  byId("models").replaceChildren(...items);
}

function sayOfWorkflow(text, isProblem = false, details = []) {
  const line = byId("workflow-state");
  line.textContent = text;
  line.classList.toggle("problem", isProblem);
  byId("workflow-problems").replaceChildren(...(Array.isArray(details) ? details : []).map(problemOf));
}

/** One problem, with the way to its input where the form has it. */
function problemOf(detail) {
  const where = detail.node_id ? `Node ${detail.node_id}${detail.input ? `, ${detail.input}` : ""}` : "";
  const goTo = form.wayTo(detail);
  const place = goTo ? element("button", { type: "button", class: "link", onclick: goTo }, where) : where;
  return element("li", {}, place, where ? ": " : "", String(detail.message ?? detail));
}

// The job

byId("run-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!byId("run-form").reportValidity()) return;
  form.drawSeeds();
  updateSamples();
  following?.abort();
  clearJob();
  showJob({ status: "IN_QUEUE" });
  const byButton = document.activeElement === byId("run");
  byId("run").disabled = true; // one at a time from here; the list of jobs has the others
  byId("job-card").scrollIntoView({ block: "nearest" });
  try {
    const job = await endpoint.submit(body());
    refreshQueue();
    await follow(job.id, byButton);
  } catch (error) {
    setRunning(null);
    showJob({ status: "FAILED", error: error.message });
  }
});
byId("cancel").addEventListener("click", () => running && cancelJob(running));
byId("lightbox").addEventListener("click", () => byId("lightbox").close());

function body() {
  return bodyOf(workflow, form, { overrides: understood, live: understood });
}

/** Shows a job until it is over; the keyboard's focus goes to its Cancel, where that is wished. */
async function follow(id, takesFocus = false) {
  following?.abort();
  following = new AbortController();
  setRunning(id);
  if (takesFocus) byId("cancel").focus({ preventScroll: true });
  const job = await endpoint.follow(id, showJob, following.signal);
  if (job === null) return; // another one is followed
  setRunning(null);
  refreshQueue();
  const details = Array.isArray(job.output?.details) ? job.output.details : [];
  const first = form.mark(job.status === "FAILED" ? details : []);
  if (first) offerWay(form.wayTo(first), first.input ? "Go to the input" : "Go to the node");
}

function setRunning(id) {
  const hadFocus = document.activeElement === byId("cancel");
  running = id;
  show(byId("cancel"), id !== null);
  if (id === null) byId("run").disabled = false;
  if (id === null && hadFocus) byId("job-title").focus({ preventScroll: true }); // what it made follows
}

async function openJob(id) {
  clearJob();
  byId("run").disabled = false; // it may be anybody's
  byId("job-card").scrollIntoView({ block: "start" });
  byId("job-title").focus();
  try {
    await follow(id);
  } catch (error) {
    setRunning(null);
    showJob({ id, status: "FAILED", error: error.message });
  }
}

async function cancelJob(id) {
  try {
    await endpoint.cancel(id);
  } catch (error) {
    showError(error.message);
  }
  refreshQueue();
}

// The samples

for (const choice of document.getElementsByName("language")) {
  choice.addEventListener("change", updateSamples);
}
byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(sample());
    byId("copied").textContent = "Copied";
    setTimeout(() => (byId("copied").textContent = ""), 2000);
  } catch {
    // Browsers let pages copy on this machine and over https only.
    byId("sample").textContent = sample();
    getSelection().selectAllChildren(byId("sample"));
    byId("copied").textContent = "Selected: copy it with the keyboard";
  }
});

function sample() {
  const language = document.querySelector("[name=language]:checked").value;
  return samplesOf(endpoint, body())[language];
}

function updateSamples() {
  if (workflow === null) return;
  const text = sample();
  byId("sample").textContent = text.replace(/[A-Za-z0-9+/=]{400,}/g, (long) => `${long.slice(0, 60)}…`);
}
