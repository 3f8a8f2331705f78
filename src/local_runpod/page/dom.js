// Small helpers around the DOM. Text is always set as text: nothing here parses HTML.

/** Finds the element of an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Makes an element: `element("a", {href: "…", class: "x", onclick: f}, "text", child, …)`.
 * Properties that the element has are set as such, the others as attributes.
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Shows or hides an element. */
export function show(target, visible) {
  target.hidden = !visible;
}

/** "28 kB" of 28102. */
export function sizeOf(bytes) {
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  return bytes >= 1000 ? `${Math.round(bytes / 1000)} kB` : `${bytes} bytes`;
}

/** "427 ms", "3.2 s", "2 min 5 s". */
export function durationOf(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
