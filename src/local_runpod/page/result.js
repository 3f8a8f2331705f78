// A finished job's output: a gallery that shows pictures, plays video and sound, and has all else
// to download.

import { toBlob } from "./base64.js";
import { byId, element, sizeOf } from "./dom.js";

const LISTS = ["images", "videos", "audio", "files"];
// Anything else could be a page, which would run here if it were opened.
const SHOWN = /^(image\/(png|jpeg|webp|gif|avif|bmp|apng)|video\/|audio\/)/;

let urls = [];

/** Fills the gallery; gives how many files and texts there are. */
export function showOutput(container, output) {
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
  const seen = new Set();
  const figures = [];
  for (const list of LISTS) {
    for (const item of Array.isArray(output?.[list]) ? output[list] : []) {
      const data = typeof item === "string" ? item : item?.data;
      const key = `${item?.filename} ${item?.subfolder} ${item?.node_id}`;
      // The same file may stand in two lists; its data in one.
      if (typeof data !== "string" || (item?.filename && seen.has(key))) continue;
      seen.add(key);
      figures.push(figureOf(item, data, list));
    }
  }
  for (const item of Array.isArray(output?.texts) ? output.texts : []) {
    figures.push(textOf(item));
  }
  container.replaceChildren(...figures);
  return figures.length;
}

function figureOf(item, data, list) {
  const name = item.filename || `${list}-output`;
  const type = SHOWN.test(item.media_type ?? "") ? item.media_type : guessed(list, item.media_type);
  let url = data;
  if (!/^https?:\/\//.test(data)) {
    try {
      url = URL.createObjectURL(toBlob(data, type));
    } catch {
      return element("figure", {}, element("figcaption", {}, `${name}: its data is not base64.`));
    }
    urls.push(url);
  }
  const facts = [
    item.width && `${item.width} × ${item.height}`,
    item.seconds && `${Math.round(item.seconds * 10) / 10} s`,
    item.fps && `${Math.round(item.fps * 100) / 100} frames a second`,
    item.has_audio === true && "with sound",
    item.bytes && sizeOf(item.bytes),
    item.node_id && `node ${item.node_id}`,
  ].filter(Boolean);
  return element(
    "figure",
    {},
    mediumOf(type, url, name),
    element(
      "figcaption",
      {},
      element("a", { href: url, ...savingOf(url, name) }, name),
      element("span", { class: "quiet" }, facts.join(" · ")),
    ),
  );
}

/** Files of a bucket are another origin's: browsers open these instead of saving them. */
function savingOf(url, name) {
  return url.startsWith("blob:") ? { download: name } : { target: "_blank", rel: "noreferrer" };
}

function guessed(list, mediaType) {
  if (list === "images" && mediaType === undefined) return "image/png";
  return "application/octet-stream";
}

function mediumOf(type, url, name) {
  if (type.startsWith("image/")) {
    const large = () => {
      byId("lightbox-image").src = url;
      byId("lightbox-image").alt = name;
      byId("lightbox").showModal();
    };
    const picture = element("img", { src: url, alt: name, loading: "lazy" });
    return element("button", { class: "picture", onclick: large, title: "Show it large" }, picture);
  }
  if (type.startsWith("video/")) {
    return element("video", { src: url, controls: true, loop: true, playsInline: true, preload: "metadata", "aria-label": name });
  }
  if (type.startsWith("audio/")) return element("audio", { src: url, controls: true, "aria-label": name });
  return element("div", { class: "file", "aria-hidden": "true" }, name.split(".").pop());
}

function textOf(item) {
  const text = typeof item === "string" ? item : item?.text;
  return element(
    "figure",
    { class: "text" },
    element("pre", { tabIndex: 0, "aria-label": "Text" }, String(text ?? "")),
    element("figcaption", {}, "Text", element("span", { class: "quiet" }, ` node ${item?.node_id}`)),
  );
}
