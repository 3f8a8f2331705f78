// JSON whose whole numbers stay whole: seeds go up to 2^64, JavaScript's numbers only to 2^53.

/** Parses; whole numbers that a number cannot hold become BigInts, where the browser can tell. */
export function parse(text) {
  return JSON.parse(text, (_name, value, context) => {
    const isLost = typeof value === "number" && !Number.isSafeInteger(value);
    return isLost && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value;
  });
}

/** Writes; BigInts as the numbers that they are. */
export function write(value, indent = 0) {
  const big = new Map();
  const text = JSON.stringify(
    value,
    (_name, part) => {
      if (typeof part !== "bigint") return part;
      const mark = `\u0001${part}\u0001`;
      big.set(JSON.stringify(mark), String(part));
      return mark;
    },
    indent,
  );
  return [...big].reduce((done, [mark, digits]) => done.replaceAll(mark, digits), text);
}

/** Writes an object whose values are JSON already, so that they stay as they are. */
export function join(parts) {
  const fields = Object.entries(parts).filter(([, json]) => json !== undefined);
  return `{${fields.map(([name, json]) => `${JSON.stringify(name)}: ${json}`).join(", ")}}`;
}

/** Copies a value for people: long texts, which are files as a rule, are cut. */
export function shortened(value, longest = 200) {
  if (typeof value === "string" && value.length > longest) {
    return `${value.slice(0, 40)}… (${value.length} characters)`;
  }
  if (Array.isArray(value)) return value.map((part) => shortened(part, longest));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([k, part]) => [k, shortened(part, longest)]));
}
