// Runs a job with the client that is made of docs/openapi.json: node job.js ADDRESS

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const client = createClient<paths>({ baseUrl: process.argv[2] });
const workflow = {
  "1": { class_type: "EmptyImage", inputs: { width: 8, height: 8, batch_size: 1, color: 0 } },
  "2": { class_type: "SaveImage", inputs: { images: ["1", 0], filename_prefix: "made" } },
};
const { data: accepted, error } = await client.POST("/run", { body: { input: { workflow } } });
if (error !== undefined) throw new Error(error.detail);

const ended: components["schemas"]["Status"][] = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];
for (;;) {
  const { data: job } = await client.GET("/status-sync/{id}", {
    params: { path: { id: accepted.id }, query: { wait: 5000 } },
  });
  if (job !== undefined && ended.includes(job.status)) {
    const output = job.output as components["schemas"]["ResultSuccess"];
    console.log(job.status, output.images?.[0]?.filename);
    break;
  }
}
