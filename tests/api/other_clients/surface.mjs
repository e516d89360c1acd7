// Run by the Node client (`node surface.mjs BASE_URL`, with NODE_PATH or node_modules beside the copy): what a fine-tuning script calls.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const rows = [...Array(12).keys()].map((i) => ({ messages: [{ role: "user", content: `Say ${i}.` }], reference_answer: String(i) }));
const content = rows.map((row) => JSON.stringify(row)).join("\n");
const same = { type: "string_check", name: "same", input: "{{sample.output_text}}", reference: "{{item.reference_answer}}", operation: "eq" };

const file = await client.files.create({ file: await toFile(Buffer.from(content), "train.jsonl"), purpose: "fine-tune" });
assert.equal((await client.files.waitForProcessing(file.id)).status, "processed");
assert.equal(await (await client.files.content(file.id)).text(), content);

const ran = await client.fineTuning.alpha.graders.run({ grader: same, model_sample: "7", item: { reference_answer: "7" } });
assert.equal(ran.reward, 1);
assert.equal(ran.metadata.errors.other_error, false);
assert.equal((await client.fineTuning.alpha.graders.validate({ grader: same })).grader.type, "string_check");

const method = { type: "reinforcement", reinforcement: { grader: same, hyperparameters: { n_epochs: 2 } } };
const body = { model: "pinetune-mini", training_file: file.id, validation_file: file.id, seed: 7, suffix: "node", method };
const job = await client.fineTuning.jobs.create({ ...body, metadata: { team: "node" } });
assert.equal(job.status, "validating_files");
assert.equal((await client.fineTuning.jobs.retrieve(job.id)).method.reinforcement.hyperparameters.n_epochs, 2);
const messages = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 1 })) messages.push(event.message);
assert.equal(messages.at(-1), `Created fine-tuning job: ${job.id}`);
assert.equal(messages.length, 2);
for await (const found of client.fineTuning.jobs.list({ metadata: { team: "node" } })) assert.equal(found.id, job.id);
assert.deepEqual((await client.fineTuning.jobs.checkpoints.list(job.id)).data, []);
await assert.rejects(client.fineTuning.jobs.pause(job.id), OpenAI.BadRequestError);
assert.equal((await client.fineTuning.jobs.cancel(job.id)).status, "cancelled");
await assert.rejects(client.fineTuning.jobs.create({ ...body, model: "gpt-17" }), (error) => error.status === 400 && error.param === "model");

const upload = await client.uploads.create({ filename: "big.jsonl", bytes: content.length, mime_type: "text/jsonl", purpose: "fine-tune" });
const part = await client.uploads.parts.create(upload.id, { data: await toFile(Buffer.from(content), "part") });
const md5 = createHash("md5").update(content).digest("hex");
assert.equal((await client.uploads.complete(upload.id, { part_ids: [part.id], md5 })).file.purpose, "fine-tune");

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.ok(models.includes("pinetune-mini"));
await assert.rejects(client.models.retrieve("ft:Qwen/Qwen3-0.6B:me::12345678"), (error) => error.code === "model_not_found");
await assert.rejects(client.responses.create({ model: "pinetune-mini", input: "x" }), (error) => error.status === 503);
assert.equal((await client.files.delete(file.id)).deleted, true);
console.log("passed");
