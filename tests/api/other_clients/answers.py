"""Run by old and new Python clients alike (`answers.py BASE_URL`): what asks a model, on the bundled miniature, strictly validated."""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=240, _strict_response_validation=True)
messages = [{"role": "user", "content": "A patient with seizures. Which gene fits?"}]
asked = {"model": "pinetune-mini", "messages": messages, "max_tokens": 24, "seed": 7, "temperature": 1.0}

# chat completions: whole, streamed, several choices, constrained
whole = client.chat.completions.create(**asked)
assert whole.object == "chat.completion" and whole.choices[0].finish_reason in ("stop", "length")
assert whole.usage.completion_tokens > 0
assert whole.usage.completion_tokens_details.reasoning_tokens <= whole.usage.completion_tokens
pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
assert pieces[0].choices[0].delta.role == "assistant" and pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
assert streamed == (whole.choices[0].message.content or "")
assert len(client.chat.completions.create(**asked, n=3).choices) == 3
schema = {"type": "object", "properties": {"gene": {"type": "string", "maxLength": 8}}, "required": ["gene"], "additionalProperties": False}
named = {"type": "json_schema", "json_schema": {"name": "gene", "strict": True, "schema": schema}}
constrained = client.chat.completions.create(**{**asked, "max_tokens": 200}, response_format=named, reasoning_effort="low")
assert set(json.loads(constrained.choices[0].message.content)) == {"gene"}

# responses: a row's messages as they are, reasoning counted, the events of a stream, the conversation that goes on
answer = client.responses.create(
    model="pinetune-mini", input=messages, max_output_tokens=48, reasoning={"effort": "medium", "summary": "detailed"}
)
assert answer.object == "response" and isinstance(answer.output_text, str)
assert answer.usage.output_tokens_details.reasoning_tokens <= answer.usage.output_tokens
assert {item.type for item in answer.output} <= {"reasoning", "message"}
events = list(client.responses.create(model="pinetune-mini", input=messages, max_output_tokens=24, stream=True))
assert events[0].type == "response.created" and events[-1].type in ("response.completed", "response.incomplete")
further = client.responses.create(model="pinetune-mini", input="And another?", previous_response_id=answer.id, max_output_tokens=8)
assert further.previous_response_id == answer.id
assert client.responses.retrieve(answer.id).id == answer.id
client.responses.delete(answer.id)
try:
    client.responses.create(model="o4-mini-2025-04-16", input="x")
    raise AssertionError("a model that is not there answered")
except openai.NotFoundError as error:
    assert error.code == "model_not_found"
print("passed", openai.__version__)
