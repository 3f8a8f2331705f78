// The endpoint that is used: this server, or one at RunPod. The same API either way.

import { parse } from "./json.js";

const HOSTED = "https://api.runpod.ai/v2";
const RUN_LIMIT = 10 * 1024 * 1024; // bytes that /run takes; /runsync takes more
const ASK_WAIT_MS = 5000; // after that it is told what is waited for
const FINAL = new Set(["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]);

/** Whether a job is over. */
export const isFinal = (job) => FINAL.has(job.status);

/** An answer that is no success; `status` is the HTTP code, 0 without an answer. */
export class EndpointError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Endpoint {
  /** `id`: of an endpoint at RunPod; empty: this server. The key is kept here and nowhere else. */
  constructor(id = "", key = "") {
    this.id = id;
    this.key = key;
  }

  get isHosted() {
    return this.id !== "";
  }

  /** The address, as it stands in samples too. */
  get url() {
    return this.isHosted ? `${HOSTED}/${encodeURIComponent(this.id)}` : location.origin;
  }

  /** Queues a request (JSON text); gives the job, and waits a while for its end if `wait` says so. */
  async submit(body, wait = 0) {
    const isLarge = new Blob([body]).size > RUN_LIMIT;
    const path = wait || isLarge ? `runsync?wait=${wait || 1000}` : "run";
    return this.#call("POST", path, body);
  }

  status(id) {
    return this.#call("GET", `status/${encodeURIComponent(id)}`);
  }

  cancel(id) {
    return this.#call("POST", `cancel/${encodeURIComponent(id)}`);
  }

  health() {
    return this.#call("GET", "health");
  }

  /** The jobs that this server knows, newest first; RunPod has no such list. */
  async jobs() {
    return (await this.#call("GET", "jobs")).jobs;
  }

  /** Has the worker answer a question; `onChange` gets the job while it waits. Null: `signal` ended it. */
  async ask(body, onChange, signal) {
    const job = await this.submit(body, ASK_WAIT_MS);
    if (signal.aborted) return null;
    if (isFinal(job)) return job;
    onChange(job);
    return this.follow(job.id, onChange, signal);
  }

  /** Asks for a job until it is over; `onChange` gets each answer. Passing errors are survived. */
  async follow(id, onChange, signal) {
    let failures = 0;
    for (;;) {
      try {
        const job = await this.status(id);
        failures = 0;
        if (signal.aborted) return null;
        onChange(job);
        if (isFinal(job)) return job;
      } catch (error) {
        failures += 1;
        const isPassing = error.status === 0 || error.status === 429 || error.status >= 500;
        if (!isPassing || failures > 20) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, failures ? 1500 : 500));
      if (signal.aborted) return null;
    }
  }

  async #call(method, path, body) {
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    if (this.key) headers.Authorization = `Bearer ${this.key}`;
    let response;
    try {
      response = await fetch(`${this.url}/${path}`, { method, headers, body, cache: "no-store" });
    } catch {
      throw new EndpointError(0, `Nothing answers at ${this.url}.`);
    }
    const text = await response.text();
    let content = null;
    try {
      content = parse(text);
    } catch {
      // Not JSON: told below.
    }
    if (!response.ok) {
      const detail = content?.detail ?? content?.error ?? response.statusText;
      throw new EndpointError(response.status, `${this.url} answered ${response.status}: ${detail}`);
    }
    if (content === null || typeof content !== "object") {
      throw new EndpointError(0, `${this.url} did not answer with JSON.`);
    }
    return content;
  }
}
