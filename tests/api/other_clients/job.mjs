// Run by the Node client (`node job.mjs BASE_URL`): a whole job on the bundled miniature, from rows to an answered question.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0, timeout: 240_000 });
const { jobs } = client.fineTuning;
const rows = [..."abcdefxy"].map((word) => ({ messages: [{ role: "user", content: `Which gene fits ${word}?` }], answer: `Gene ${word}` }));
const sleep = () => new Promise((done) => setTimeout(done, 100));

async function upload(name, wanted) {
  const content = wanted.map((row) => `${JSON.stringify(row)}\n`).join("");
  return (await client.files.create({ file: await toFile(Buffer.from(content), name), purpose: "fine-tune" })).id;
}

async function until(...statuses) {
  for (;;) {
    const found = await jobs.retrieve(job.id);
    if (statuses.includes(found.status)) return found;
    assert.ok(["validating_files", "queued", "running"].includes(found.status), JSON.stringify(found.error));
    await sleep();
  }
}

async function messages() {
  const found = [];
  for await (const event of jobs.listEvents(job.id, { limit: 1 })) found.push(event.message);
  return found;
}

const grader = {
  type: "text_similarity", name: "like", evaluation_metric: "fuzzy_match", input: "{{sample.output_text}}", reference: "{{item.answer}}",
};
await client.fineTuning.alpha.graders.validate({ grader });
const hyperparameters = { batch_size: 2, eval_interval: 30, eval_samples: 1 };
const pinetune = { steps: 60, group_size: 2, max_tokens: 24, thinking_budget: 8, early_stopping: false, threads: 1 };
const job = await jobs.create({
  model: "pinetune-mini", training_file: await upload("train.jsonl", rows.slice(0, 6)), validation_file: await upload("valid.jsonl", rows.slice(6)),
  seed: 1, suffix: "whole", method: { type: "reinforcement", reinforcement: { grader, response_format: null, hyperparameters } }, pinetune,
});
while ((await until("running")).pinetune.step === 0) await sleep(); // of sixty steps the first is over, then
await jobs.pause(job.id);
assert.equal((await until("paused", "succeeded")).status, "paused");
const checkpoint = (await jobs.checkpoints.list(job.id)).data[0];
const asked = rows[0].messages;
const meanwhile = await client.chat.completions.create({ model: checkpoint.fine_tuned_model_checkpoint, messages: asked, max_tokens: 8 });
assert.equal(meanwhile.model, checkpoint.fine_tuned_model_checkpoint);
assert.equal((await jobs.resume(job.id)).id, job.id);
const done = await until("succeeded");
const told = await messages();
assert.equal(told[0], "The job has successfully completed");
const trained = told.filter((message) => message.includes("train mean reward=")).map((message) => parseInt(message.slice(5)));
assert.deepEqual(trained, Array.from({ length: 60 }, (_, place) => 60 - place)); // each once, across the pause
const table = await (await client.files.content(done.result_files[0])).text();
assert.ok(table.startsWith("step,train_mean_reward,"));
const names = [];
for await (const run of client.evals.runs.list(done.eval_id)) names.push(run.name);
assert.deepEqual(names.slice(0, 2), ["Step 0", "Step 30"]);
const reasoning = { effort: "medium", summary: "detailed" };
const answer = await client.responses.create({ model: done.fine_tuned_model, input: asked, reasoning, max_output_tokens: 32 });
assert.equal(answer.model, done.fine_tuned_model);
assert.equal(typeof answer.output_text, "string");
assert.equal((await client.models.delete(done.fine_tuned_model)).deleted, true);
console.log("passed");
