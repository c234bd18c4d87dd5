// A client of latent_inv, made from its protos: files up and down, jobs, and watching them over broken lines.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));
const SERVICES = ["artifact_service", "job_service"].map((name) => `latent_inv/v1/${name}.proto`);
// A piece of a file; servers take up to 1 MiB.
const PIECE_BYTES = 512 * 1024;
const MESSAGE_BYTES = 64 * 1024 * 1024;
// Without a word from the server for so long, it is given up.
const PATIENCE_MS = 60_000;

/**
 * Connect as the environment says.
 *
 * LATENT_INV_SERVER  host:port; default 127.0.0.1:50051
 * LATENT_INV_TOKEN   as `latent-inv tokens add` printed it
 * LATENT_INV_CA      file with the certificates of CAs to trust (PEM): use TLS
 * LATENT_INV_TLS     1: use TLS, with a server certificate of a public CA
 */
export async function connect(environment = process.env) {
  const address = environment.LATENT_INV_SERVER || "127.0.0.1:50051";
  const { LATENT_INV_TOKEN: token, LATENT_INV_CA: ca, LATENT_INV_TLS: tls } = environment;
  const encrypted = Boolean(ca) || tls === "1";
  if (token && !encrypted && !/^(localhost|127\.\d+\.\d+\.\d+|\[::1\]):\d+$/.test(address)) {
    throw new Error(`the token would go to ${address} unencrypted; set LATENT_INV_CA or LATENT_INV_TLS=1`);
  }
  const credentials = encrypted
    ? grpc.credentials.createSsl(ca ? await readFile(ca) : null)
    : grpc.credentials.createInsecure();
  const definition = await loader.load(SERVICES, {
    includeDirs: [PROTOS],
    keepCase: true, // job_id, not jobId: the names of the protos
    longs: Number, // all of ours are below 2^53
    enums: String,
    oneofs: true, // `message.event` says which one is set
    defaults: true,
  });
  const { ArtifactService, JobService } = grpc.loadPackageDefinition(definition).latent_inv.v1;
  const options = {
    "grpc.max_receive_message_length": MESSAGE_BYTES,
    "grpc.max_send_message_length": MESSAGE_BYTES,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 5000,
  };
  return new Client(new ArtifactService(address, credentials, options), new JobService(address, credentials, options), token);
}

export class Client {
  constructor(artifacts, jobs, token) {
    this.artifacts = artifacts;
    this.jobs = jobs;
    this.token = token;
  }

  close() {
    this.artifacts.close();
    this.jobs.close();
  }

  /** Send a file, or what the server lacks of it. Returns its SHA-256, by which jobs refer to it. */
  async upload(path, { contentType = "", onProgress = () => {} } = {}) {
    const { size } = await stat(path);
    const sha256 = await hashOf(path);
    const patience = new Patience();
    let furthest = 0;
    for (;;) {
      try {
        const there = await this.#look(sha256);
        if (there?.complete) return sha256;
        const offset = there?.received ?? 0;
        if (offset > furthest) patience.heard();
        furthest = Math.max(furthest, offset);
        await this.#send(path, { sha256, size, offset, content_type: contentType }, onProgress);
        return sha256;
      } catch (error) {
        await patience.pause(error);
      }
    }
  }

  async #send(path, header, onProgress) {
    let call;
    let over = false;
    const answer = new Promise((resolve, reject) => {
      call = this.artifacts.UploadArtifact(this.#metadata(), (error) => {
        over = true;
        error ? reject(error) : resolve();
      });
    });
    answer.catch(() => {}); // it is awaited below
    call.on("error", () => {});
    call.write({ header });
    // The header is accepted; where it is not, nothing more is sent.
    await Promise.race([once(call, "metadata"), answer]);
    let sent = header.offset;
    for await (const chunk of createReadStream(path, { start: header.offset, highWaterMark: PIECE_BYTES })) {
      if (over) break;
      // `write` says whether there is room for more: never more than a few pieces are in memory.
      if (!call.write({ chunk })) await Promise.race([once(call, "drain"), answer]);
      sent += chunk.length;
      onProgress(sent, header.size);
    }
    call.end();
    await answer;
  }

  async #look(sha256) {
    try {
      return (await this.#ask(this.artifacts, "GetArtifact", { sha256 })).artifact;
    } catch (error) {
      if (error.code === grpc.status.NOT_FOUND) return null;
      throw error;
    }
  }

  /** Fetch a file by its hash into `path`, which is there when it is whole. */
  async download(sha256, path) {
    const patience = new Patience();
    const part = `${path}.part`;
    const hash = createHash("sha256");
    const file = await open(part, "w");
    try {
      let received = 0;
      for (let size = Infinity; received < size; ) {
        try {
          size = (await this.#ask(this.artifacts, "GetArtifact", { sha256 })).artifact.size;
          // Read piece by piece: while one is written, gRPC holds back the others.
          const call = this.artifacts.DownloadArtifact({ sha256, offset: received }, this.#metadata());
          for await (const { chunk } of call) {
            await file.write(chunk);
            hash.update(chunk);
            received += chunk.length;
            patience.heard();
          }
        } catch (error) {
          await patience.pause(error);
        }
      }
      if (hash.digest("hex") !== sha256) throw new Error(`what came is not the file ${sha256}`);
      await file.sync();
      await file.close();
      await rename(part, path);
    } catch (error) {
      await file.close().catch(() => {});
      await rm(part, { force: true });
      throw error;
    }
  }

  /** Queue a job. The same `requestId` and spec give the same job, so that it can be asked for again. */
  async createJob(spec, requestId, labels = {}) {
    const patience = new Patience();
    for (;;) {
      try {
        return (await this.#ask(this.jobs, "CreateJob", { spec, request_id: requestId, labels })).job;
      } catch (error) {
        await patience.pause(error);
      }
    }
  }

  /**
   * Events of a job: `{sequence, event: "progress" | "preview" | "finished", …}`; the last one is "finished".
   * Leaving the loop does not affect the job. A line that breaks is made anew, and goes on after the last event.
   */
  async *watch(jobId, after = 0) {
    const patience = new Patience();
    for (;;) {
      const call = this.jobs.WatchJob({ job_id: jobId, after_sequence: after }, this.#metadata());
      try {
        for await (const message of call) {
          patience.heard();
          if (message.event !== "finished" && message.sequence <= after) continue;
          after = Math.max(after, message.sequence);
          yield message;
          if (message.event === "finished") return;
        }
        throw Object.assign(new Error("the stream ended before the job did"), { code: grpc.status.UNAVAILABLE });
      } catch (error) {
        await patience.pause(error);
      } finally {
        call.cancel();
      }
    }
  }

  #metadata() {
    const metadata = new grpc.Metadata();
    if (this.token) metadata.set("authorization", `Bearer ${this.token}`);
    return metadata;
  }

  #ask(service, method, request) {
    return new Promise((resolve, reject) => {
      service[method](request, this.#metadata(), (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }
}

/** Pauses between attempts, longer and longer, until there was no word from the server for too long. */
class Patience {
  constructor() {
    this.heard();
  }

  heard() {
    this.at = Date.now();
    this.pauseMs = 200;
  }

  /** Wait before the next attempt; throws `error` where another one would not help. */
  async pause(error) {
    if (error.code !== grpc.status.UNAVAILABLE || Date.now() - this.at > PATIENCE_MS) throw error;
    await sleep(this.pauseMs * (0.5 + Math.random() / 2));
    this.pauseMs = Math.min(2 * this.pauseMs, 5000);
  }
}

async function hashOf(path) {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path)) hash.update(piece);
  return hash.digest("hex");
}
