// Files as base64 and back.

/** Reads a file (or blob) as base64. */
export function toBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^data:[^,]*,?/, ""));
    reader.onerror = () => reject(new Error(`${file.name ?? "The file"} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

/** Makes a blob of base64, with or without `data:…,` before it. Throws on what is none. */
export function toBlob(text, mediaType) {
  const encoded = text.startsWith("data:") ? text.slice(text.indexOf(",") + 1) : text;
  const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: mediaType });
}
