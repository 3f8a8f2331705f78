// The workflow's inputs as a form. What was changed is kept by name, so that the form can be made
// anew, of better descriptions, without losing it.

import { toBase64 } from "./base64.js";
import { byId, element, sizeOf } from "./dom.js";
import { write } from "./json.js";

const MAIN = /^(text|prompt|.*prompt|(noise_)?seed|width|height|steps|cfg|denoise|batch_size|length)$/i;
const SEED = /^(noise_)?seed$/;

const nameOf = (input) => `${input.node_id}.${input.input}`;
const isMain = (input) => Boolean(input.multiline || input.upload) || MAIN.test(input.input);

export class Form {
  #container;
  #onChange;
  #fields = new Map();

  /** `values`: JSON text by "node.input", of what was changed; `files`: what was dropped. */
  constructor(container, onChange) {
    this.#container = container;
    this.#onChange = onChange;
    this.reset();
  }

  reset() {
    this.values = new Map();
    this.files = new Map();
    this.show([]);
  }

  /** Whether an input is sent with another value than the workflow's, or with a file. */
  isChanged(input) {
    const name = nameOf(input);
    return this.values.has(name) || this.files.has(name);
  }

  /** Makes the form: nodes with prompts, files, seeds and sizes first, the rest folded. */
  show(inputs) {
    this.#fields.clear();
    const nodes = new Map();
    for (const input of inputs) {
      nodes.set(input.node_id, [...(nodes.get(input.node_id) ?? []), input]);
    }
    const groups = [...nodes.values()];
    const weight = (group) =>
      group.some((input) => input.multiline) ? 0 : group.some((input) => input.upload) ? 1 : 2;
    groups.sort((a, b) => weight(a) - weight(b));
    const main = groups.map((group) => this.#node(group.filter(isMain)));
    const others = groups.map((group) => this.#node(group.filter((input) => !isMain(input))));
    const count = inputs.filter((input) => !isMain(input)).length;
    const focused = document.activeElement?.id;
    this.#container.replaceChildren(
      ...main.filter(Boolean),
      count > 0
        ? element(
            "details",
            { class: "more", open: main.every((node) => node === null) },
            element("summary", {}, count === 1 ? "1 more input" : `${count} more inputs`),
            ...others.filter(Boolean),
          )
        : "",
    );
    if (this.#container.querySelector(`#${CSS.escape(focused || "-")}`)) byId(focused).focus();
  }

  /** Draws new seeds where that is wished; called before each run. */
  drawSeeds() {
    for (const { draw } of this.#fields.values()) draw?.();
  }

  /** Marks the fields that errors name; gives the first error that the form has a place for. */
  mark(details) {
    for (const field of this.#fields.values()) unmark(field);
    const named = details
      .map((detail) => [this.#fields.get(nameOf(detail)), detail])
      .filter(([field]) => field !== undefined);
    for (const [{ control, problem }, detail] of named) {
      control.setAttribute("aria-invalid", "true");
      problem.textContent = detail.message;
    }
    return named[0]?.[1] ?? details.find((detail) => this.wayTo(detail));
  }

  /** Gives a function that goes to an input's field, or its node's first; null where there is none. */
  wayTo(input) {
    const ofNode = () => [...this.#fields].find(([name]) => name.startsWith(`${input.node_id}.`))?.[1];
    const field = this.#fields.get(nameOf(input)) ?? (input.input ? undefined : ofNode());
    if (field === undefined) return null;
    return () => {
      const folded = field.control.closest("details");
      if (folded) folded.open = true;
      field.control.focus();
    };
  }

  #node(inputs) {
    if (inputs.length === 0) return null;
    const [{ title, class_type, node_id }] = inputs;
    return element(
      "fieldset",
      {},
      element(
        "legend",
        {},
        title || class_type,
        element("span", { class: "quiet" }, ` node ${node_id}`),
      ),
      element("div", { class: "fields" }, ...inputs.map((input) => this.#field(input))),
    );
  }

  #field(input) {
    const id = `input-${nameOf(input)}`;
    const problem = element("p", { class: "problem", id: `${id}-problem` });
    const made = this.#control(input, id);
    made.control.setAttribute("aria-describedby", problem.id);
    this.#fields.set(nameOf(input), { ...made, problem });
    return element(
      "div",
      { class: input.multiline || input.upload ? "field wide" : "field" },
      element("label", { htmlFor: id }, input.input.replaceAll("_", " ")),
      ...made.parts,
      problem,
    );
  }

  #control(input, id) {
    if (input.upload) return this.#upload(input, id);
    if (input.type === "BOOLEAN") return this.#checkbox(input, id);
    if (Array.isArray(input.choices) && input.choices.length > 0) return this.#choice(input, id);
    if (input.type === "INT" || input.type === "FLOAT") return this.#number(input, id);
    return this.#text(input, id);
  }

  /** The value to show: what was changed, else the workflow's own. */
  #shown(input) {
    const changed = this.values.get(nameOf(input));
    return changed === undefined ? input.value : JSON.parse(changed);
  }

  #change(input, json) {
    if (json === undefined || json === write(input.value)) this.values.delete(nameOf(input));
    else this.values.set(nameOf(input), json);
    unmark(this.#fields.get(nameOf(input)));
    this.#onChange();
  }

  #text(input, id) {
    const tag = input.multiline ? "textarea" : "input";
    const control = element(tag, { id, value: this.#shown(input) ?? "", spellcheck: input.multiline });
    if (input.multiline) control.rows = 3;
    control.addEventListener("input", () => this.#change(input, JSON.stringify(control.value)));
    return { control, parts: [control] };
  }

  #checkbox(input, id) {
    const control = element("input", { id, type: "checkbox", checked: Boolean(this.#shown(input)) });
    control.addEventListener("change", () => this.#change(input, String(control.checked)));
    return { control, parts: [control] };
  }

  #choice(input, id) {
    const now = this.#shown(input);
    // A value that the worker does not have is kept: the workflow says so.
    const choices = input.choices.includes(now) ? input.choices : [now, ...input.choices];
    const options = choices.map((choice, index) =>
      element("option", { value: index, selected: choice === now }, String(choice)),
    );
    const control = element("select", { id }, ...options);
    control.addEventListener("change", () => this.#change(input, write(choices[control.value])));
    return { control, parts: [control] };
  }

  #number(input, id) {
    // Digits are kept as they were typed: seeds are larger than JavaScript's numbers.
    const shown = this.values.get(nameOf(input)) ?? write(input.value ?? "").replaceAll('"', "");
    const isWhole = input.type === "INT";
    const control = element("input", {
      id,
      type: "text",
      inputMode: isWhole ? "numeric" : "decimal",
      autocomplete: "off",
      value: shown,
    });
    const change = () => {
      const text = control.value.trim();
      const fits = (isWhole ? /^-?\d+$/ : /^-?\d+(\.\d+)?(e[-+]?\d+)?$/i).test(text);
      const value = fits && (isWhole ? BigInt(text) : Number(text));
      const inside = fits && !(value < input.min) && !(value > input.max);
      control.setCustomValidity(inside ? "" : limitsOf(input, isWhole));
      control.toggleAttribute("aria-invalid", !inside);
      if (inside) this.#change(input, text.replace(/^(-?)0+(?=\d)/, "$1"));
    };
    control.addEventListener("input", change);
    control.addEventListener("change", () => control.reportValidity());
    if (!SEED.test(input.input)) return { control, parts: [control] };
    return this.#seed(control, change, id);
  }

  #seed(control, change, id) {
    const redraw = () => {
      const [high, low] = crypto.getRandomValues(new Uint32Array(2));
      control.value = String((BigInt(high & 0x1fffff) << 32n) | BigInt(low)); // 53 bits
      change();
    };
    const name = control.id.replace("input-", "");
    const each = element("input", { type: "checkbox", id: `${id}-each`, checked: this.drawn?.has(name) });
    each.addEventListener("change", () => {
      this.drawn ??= new Set();
      if (each.checked) this.drawn.add(name);
      else this.drawn.delete(name);
    });
    return {
      control,
      draw: () => each.checked && redraw(),
      parts: [
        element(
          "div",
          { class: "row seed" },
          control,
          element("button", { type: "button", class: "small", onclick: redraw }, "New"),
          element("label", { class: "check", htmlFor: each.id }, each, "new for each run"),
        ),
      ],
    };
  }

  #upload(input, id) {
    const name = nameOf(input);
    const accept = { image: "image/*", audio: "audio/*", video: "video/*" }[input.upload];
    const control = element("input", { id, type: "file", accept, class: "visually-hidden" });
    const label = element("span");
    const preview = element("img", { alt: "", hidden: true });
    const tell = () => {
      const file = this.files.get(name);
      label.textContent = file ? `${file.name} (${sizeOf(file.size)})` : `${input.value || "no file"}`;
      preview.hidden = !file?.url;
      if (file?.url) preview.src = file.url;
    };
    const take = async (file) => {
      if (!file) return;
      const url = input.upload === "image" ? URL.createObjectURL(file) : null;
      const data = await toBase64(file);
      const kind = input.upload === "image" ? "image" : "file";
      const others = [...this.files].filter(([other]) => other !== name).map(([, sent]) => sent.name);
      const sentName = others.includes(file.name) ? `${input.node_id}-${file.name}` : file.name;
      this.files.set(name, { name: sentName, data, size: file.size, kind, url });
      tell();
      unmark(this.#fields.get(name));
      this.#onChange();
    };
    control.addEventListener("change", () => take(control.files[0]));
    const zone = element(
      "label",
      { class: "drop small", htmlFor: id },
      preview,
      element("span", {}, label, element("span", { class: "quiet" }, "Drop or choose another")),
    );
    acceptDrops(zone, take);
    tell();
    return { control, parts: [control, zone] };
  }
}

function unmark({ control, problem }) {
  control.removeAttribute("aria-invalid");
  problem.textContent = "";
}

/** Lets files be dropped on an element. */
export function acceptDrops(zone, take) {
  const mark = (event, over) => {
    event.preventDefault();
    zone.classList.toggle("over", over);
  };
  zone.addEventListener("dragover", (event) => mark(event, true));
  zone.addEventListener("dragleave", (event) => mark(event, false));
  zone.addEventListener("drop", (event) => {
    mark(event, false);
    take(event.dataTransfer.files[0]);
  });
}

function limitsOf(input, isWhole) {
  const kind = isWhole ? "A whole number" : "A number";
  const limits = [
    input.min === undefined ? "" : ` from ${input.min}`,
    input.max === undefined ? "" : ` to ${input.max}`,
  ];
  return `${kind}${limits.join("")}`;
}
