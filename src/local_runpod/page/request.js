// The request that is sent, and the samples that send the same.

import { join, write } from "./json.js";

/**
 * Makes the request's body.
 *
 * @param {Workflow} workflow
 * @param {object} form `values`: a Map of "node.input" to JSON text, of what was changed; `files`: a
 *   Map of "node.input" to {name, data, kind}
 * @param {object} options `overrides`: the worker takes values beside the workflow; else they are put
 *   into it. `live`: previews while it runs. `dryRun`: only look at it.
 */
export function bodyOf(workflow, form, options) {
  const { images, files, overrides, ...rest } = workflow.rest;
  const values = new Map(form.values);
  for (const [name, file] of form.files) values.set(name, JSON.stringify(file.name));
  const sent = { workflow: workflow.json };
  for (const [name, value] of Object.entries(rest)) sent[name] = write(value);
  if (options.overrides) {
    const all = Object.fromEntries(Object.entries(overrides ?? {}).map(([k, v]) => [k, write(v)]));
    for (const [name, json] of values) all[name] = json;
    if (Object.keys(all).length > 0) sent.overrides = join(all);
  } else if (values.size > 0) {
    sent.workflow = withValues(workflow.api, values);
  }
  sent.images = listOf(images, form.files, (file) => file.kind === "image", "image");
  sent.files = listOf(files, form.files, (file) => file.kind !== "image", "data");
  if (options.live) sent.output = write({ ...rest.output, live: true });
  if (options.dryRun) sent.dry_run = "true";
  if (options.dryRun) return join({ input: join(sent) });
  const beside = Object.entries(workflow.beside).map(([name, value]) => [name, write(value)]);
  return join({ ...Object.fromEntries(beside), input: join(sent) });
}

/** The files of a list: those that were dropped go before those of the same name. */
function listOf(existing, dropped, belongs, field) {
  const added = [...dropped.values()].filter(belongs);
  const names = new Set(added.map((file) => file.name));
  const kept = (existing ?? []).filter((file) => !names.has(file?.name));
  const all = [...kept, ...added.map((file) => ({ name: file.name, [field]: file.data }))];
  return all.length > 0 ? write(all) : undefined;
}

function withValues(api, values) {
  const nodes = {};
  for (const [id, node] of Object.entries(api)) {
    const fields = Object.entries(node.inputs ?? {}).map(([input, value]) => [
      input,
      values.get(`${id}.${input}`) ?? write(value),
    ]);
    const { inputs: _replaced, ...others } = node;
    const parts = Object.entries(others).map(([name, value]) => [name, write(value)]);
    nodes[id] = join({ ...Object.fromEntries(parts), inputs: join(Object.fromEntries(fields)) });
  }
  return join(nodes);
}

/** Samples that send a request: `curl`, `python`, `javascript`. */
export function samplesOf(endpoint, body) {
  const url = `${endpoint.url}/runsync`;
  const needsKey = endpoint.isHosted || endpoint.key !== "";
  return {
    curl: curl(url, body, needsKey),
    python: python(url, body, needsKey),
    javascript: javascript(url, body, needsKey),
  };
}

function curl(url, body, needsKey) {
  const key = needsKey ? ' -H "Authorization: Bearer $RUNPOD_API_KEY"' : "";
  // Through standard input: an argument may have 128 kB at most.
  const end = endOf("REQUEST", body);
  return `curl -sS ${url}${key} -H 'Content-Type: application/json' --data-binary @- <<'${end}'\n${body}\n${end}\n`;
}

function python(url, body, needsKey) {
  const key = needsKey ? `\n    headers={"Authorization": f"Bearer {os.environ['RUNPOD_API_KEY']}"},` : "";
  return `import json
${needsKey ? "import os\n" : ""}
import requests

request = json.loads(
    ${JSON.stringify(body)}
)
response = requests.post(
    "${url}",
    json=request,${key}
    timeout=600,
)
print(response.json()["status"])
`;
}

function javascript(url, body, needsKey) {
  const key = needsKey ? "\n    Authorization: `Bearer ${process.env.RUNPOD_API_KEY}`," : "";
  return `const response = await fetch("${url}", {
  method: "POST",
  headers: {
    "Content-Type": "application/json",${key}
  },
  body: ${JSON.stringify(body)},
});
console.log((await response.json()).status);
`;
}

/** A word that ends a text in the shell, and is no line of it. */
function endOf(word, text) {
  return text.split("\n").includes(word) ? endOf(`${word}_`, text) : word;
}
