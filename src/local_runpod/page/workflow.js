// A workflow in whatever form it came, and what can be set in it.

import { toBase64 } from "./base64.js";
import { parse, write } from "./json.js";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** Whether it is ComfyUI's API format: nodes by id, each with a class. */
const isApiFormat = (value) =>
  isObject(value) &&
  Object.keys(value).length > 0 &&
  Object.values(value).every((node) => isObject(node) && typeof node.class_type === "string");

export class Workflow {
  /**
   * @param {string} name for people
   * @param {string} json what is sent as `workflow`, as JSON text
   * @param {object|null} api the workflow in API format, where it is known
   * @param {object} rest the other fields of a request's `input`
   * @param {object} beside what the request has beside its `input`
   */
  constructor(name, json, api = null, rest = {}, beside = {}) {
    this.name = name;
    this.json = json;
    this.api = api;
    this.rest = rest;
    this.beside = beside;
  }

  /** One that the worker has stored under a name. */
  static stored(name) {
    return new Workflow(name, JSON.stringify(name));
  }

  /** A file: a workflow of any format, a whole request, or a picture or video that holds one. */
  static async fromFile(file) {
    const text = await file.text();
    let value;
    try {
      value = parse(text.replace(/^\uFEFF/, ""));
    } catch (error) {
      if (/\.json$/i.test(file.name)) throw new Error(`${file.name} is not JSON: ${error.message}`);
      const type = file.type || "application/octet-stream";
      return new Workflow(file.name, JSON.stringify(`data:${type};base64,${await toBase64(file)}`));
    }
    return Workflow.#fromValue(file.name, value, text);
  }

  static #fromValue(name, value, text) {
    if (!isObject(value)) throw new Error(`${name} must hold a JSON object.`);
    const { input: inside, ...beside } = value;
    const isRequest = isObject(inside) && !isApiFormat(value);
    const input = isRequest ? inside : value;
    if (isObject(input.workflow) || typeof input.workflow === "string") {
      const { workflow, ...rest } = input;
      return new Workflow(name, write(workflow), isApiFormat(workflow) ? workflow : null, rest, isRequest ? beside : {});
    }
    // The file's own text is sent, not what was understood of it.
    return new Workflow(name, text.replace(/^\uFEFF/, "").trim(), isApiFormat(value) ? value : null);
  }

  /** What can be set, as far as the workflow itself tells: its plain values, without their limits. */
  plainInputs() {
    const inputs = [];
    for (const [node_id, node] of Object.entries(this.api ?? {})) {
      for (const [input, value] of Object.entries(node.inputs ?? {})) {
        const type = plainType(value);
        if (type === null) continue;
        inputs.push({
          node_id,
          input,
          type,
          value,
          class_type: node.class_type,
          title: node._meta?.title,
          multiline: type === "STRING" && (/text|prompt/i.test(input) || value.length > 60),
          upload: uploadOf(node.class_type, input),
        });
      }
    }
    return inputs;
  }
}

function plainType(value) {
  if (typeof value === "string") return "STRING";
  if (typeof value === "boolean") return "BOOLEAN";
  if (typeof value === "bigint") return "INT";
  if (typeof value === "number") return Number.isInteger(value) ? "INT" : "FLOAT";
  return null; // a link to another node, or something without a form
}

function uploadOf(classType, input) {
  const kind = /^Load(Image|Audio|Video)/.exec(classType)?.[1].toLowerCase();
  return { image: "image", audio: "audio", video: "video", file: kind }[input] && kind;
}
