// Invert a picture on a server: upload it, make a job of it, watch that, and fetch what it made.
//
//   node invert.mjs photo.png --out result [--generator photos] [--steps 100] [--seed 0]

import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import { connect } from "./client.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: "string", default: "result" },
    generator: { type: "string", default: "photos" },
    steps: { type: "string", default: "100" },
    seed: { type: "string", default: "0" },
    "request-id": { type: "string", default: randomUUID() },
  },
});

async function main() {
  if (positionals.length !== 1) throw new Error("name one picture: node invert.mjs photo.png --out result");
  const client = await connect();
  try {
    const sha256 = await client.upload(positionals[0], {
      onProgress: (sent, size) => console.error(`uploaded ${sent} of ${size} bytes`),
    });
    const spec = {
      image: { artifact_sha256: sha256 },
      generator: values.generator,
      budget: { steps: Number(values.steps) },
      seed: Number(values.seed),
    };
    const { job_id: jobId } = await client.createJob(spec, values["request-id"], { client: "node" });
    console.error(`job ${jobId}`);
    let job;
    for await (const message of client.watch(jobId)) {
      if (message.event === "progress") {
        const { latest, total_steps: total, best } = message.progress;
        console.error(`#${message.sequence} step ${latest.step} of ${total}, best so far ${best.psnr_db.toFixed(1)} dB`);
      } else if (message.event === "finished") {
        job = message.finished;
      }
    }
    await mkdir(values.out, { recursive: true });
    for (const [name, hash] of Object.entries(job.artifacts)) await client.download(hash, join(values.out, name));
    const files = Object.keys(job.artifacts).sort();
    console.log(JSON.stringify({ job_id: jobId, state: job.state, error: job.error_message, files }));
    return job.state === "JOB_STATE_SUCCEEDED" ? 0 : 1;
  } finally {
    client.close();
  }
}

main().then(
  (code) => (process.exitCode = code),
  (error) => {
    const code = grpc.status[error.code];
    console.error(`error: ${code ? `${code}: ${error.details}` : error.message}`);
    process.exitCode = 1;
  },
);
