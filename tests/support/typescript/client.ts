// A client of the generated types: `node client.js URL KEY PICTURE` uploads, waits, queries and reads a problem.
// `satisfies` and `never` make the compiler prove what the document promises.
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Job = components["schemas"]["Job"];

const [baseUrl, key, picture] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
const image = new Blob([await readFile(picture)]);

function show(job: Job): string {
  switch (job.state) {
    case "classified":
      return job.prediction?.label ?? "hidden";
    case "queued":
    case "failed":
    case "expired":
    case "cancelled":
      return job.state;
    default:
      return job.state satisfies never; // no other state
  }
}

const uploaded = await client.POST("/v1/images", {
  params: { header: { "X-Camera-Id": "belt-1", "Idempotency-Key": crypto.randomUUID() } },
  headers: { "Content-Type": "image/jpeg" },
  body: image as unknown as string, // OpenAPI's binary strings are Blobs in browsers and Node.js
  bodySerializer: (body) => body,
});
if (uploaded.error) throw new Error(uploaded.error.detail);

const waited = await client.GET("/v1/jobs/{job_id}", {
  params: { path: { job_id: uploaded.data.id }, query: { wait: 30 } },
});
if (waited.error) throw new Error(waited.error.detail);

const bulk = await client.POST("/v1/images/bulk", {
  body: { files: [] },
  bodySerializer: () => {
    const form = new FormData();
    form.append("files", image, "good.jpg");
    form.append("files", new Blob(["no image"]), "bad.jpg");
    return form;
  },
});
if (bulk.error) throw new Error(bulk.error.detail);
const outcomes = bulk.data.items.map((item) => ("job" in item ? item.job.state : item.error.type));

const queried = await client.POST("/v1/jobs/query", { body: { ids: [uploaded.data.id, "nonsense"] } });
if (queried.error) throw new Error(queried.error.detail);

const refused = await client.POST("/v1/images", {
  headers: { "Content-Type": "image/jpeg" },
  body: "no image",
  bodySerializer: (body) => body,
});
if (!refused.error) throw new Error("a text is no image");
const problem = refused.error.type;
switch (problem) {
  case "/problems/unsupported-image": // the compiler refuses a type that this call cannot have
    break;
  default:
    throw new Error(problem);
}

console.log(
  JSON.stringify({
    label: show(waited.data),
    outcomes,
    known: queried.data.jobs.map(show),
    unknown: queried.data.unknown,
    problem,
  }),
);
