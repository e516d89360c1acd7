// Run by the Node client (`node answers.mjs BASE_URL`): what asks a model, on the bundled miniature.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0, timeout: 240_000 });
const messages = [{ role: "user", content: "A patient with seizures. Which gene fits?" }];
const asked = { model: "pinetune-mini", messages, max_tokens: 24, seed: 7, temperature: 1 };

const whole = await client.chat.completions.create(asked);
assert.ok(["stop", "length"].includes(whole.choices[0].finish_reason));
let streamed = "", usage = null;
for await (const piece of await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) {
  streamed += piece.choices[0]?.delta.content ?? "";
  usage = piece.usage ?? usage;
}
assert.equal(streamed, whole.choices[0].message.content ?? "");
assert.equal(usage.completion_tokens, whole.usage.completion_tokens);

const reasoning = { effort: "medium", summary: "detailed" };
const answer = await client.responses.create({ model: "pinetune-mini", input: messages, max_output_tokens: 48, reasoning });
assert.equal(typeof answer.output_text, "string");
assert.ok(answer.usage.output_tokens_details.reasoning_tokens <= answer.usage.output_tokens);
const events = [];
for await (const event of await client.responses.create({ model: "pinetune-mini", input: messages, max_output_tokens: 24, stream: true })) {
  events.push(event.type);
}
assert.equal(events[0], "response.created");
assert.ok(["response.completed", "response.incomplete"].includes(events.at(-1)));
const further = await client.responses.create({ model: "pinetune-mini", input: "And?", previous_response_id: answer.id, max_output_tokens: 8 });
assert.equal(further.previous_response_id, answer.id);
await client.responses.delete(answer.id);
await assert.rejects(client.responses.create({ model: "o4-mini-2025-04-16", input: "x" }), (error) => error.code === "model_not_found");
console.log("passed");
