"""Run by old and new Python clients alike (`job.py BASE_URL`): a whole job on the bundled miniature, from rows to an answered question."""

import json
import sys
import time

import openai

strict = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=240, _strict_response_validation=True)
client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=240)  # its types do not know `paused`
jobs = client.fine_tuning.jobs
words = "abcdefxy"
rows = [{"messages": [{"role": "user", "content": f"Which gene fits {word}?"}], "answer": f"Gene {word}"} for word in words]


def upload(name, wanted):
    content = "".join(json.dumps(row) + "\n" for row in wanted).encode()
    file = strict.files.create(file=(name, content), purpose="fine-tune")
    return strict.files.wait_for_processing(file.id).id


def until(*statuses):
    while True:
        found = jobs.retrieve(job.id)
        if found.status in statuses:
            return found
        assert found.status in ("validating_files", "queued", "running"), (found.status, found.error)
        time.sleep(0.2)


def messages():
    """Newest first, one event a page."""
    return [event.message for event in strict.fine_tuning.jobs.list_events(job.id, limit=1)]


# Six rows train, as in the guide; a judge's prompt may show the row's messages.
like = {"type": "text_similarity", "name": "like", "evaluation_metric": "fuzzy_match"}
like |= {"input": "{{sample.output_text}} {{item.messages}}", "reference": "{{item.answer}}"}
strict.fine_tuning.alpha.graders.validate(grader=like)
hyperparameters = {"batch_size": 2, "eval_interval": 30, "eval_samples": 1}
own = {"steps": 60, "group_size": 2, "max_tokens": 24, "thinking_budget": 8, "early_stopping": False, "threads": 1}
job = strict.fine_tuning.jobs.create(
    model="pinetune-mini", training_file=upload("train.jsonl", rows[:6]), validation_file=upload("valid.jsonl", rows[6:]),
    seed=1, suffix="whole",
    method={"type": "reinforcement", "reinforcement": {"grader": like, "response_format": None, "hyperparameters": hyperparameters}},
    extra_body={"pinetune": own},
)  # fmt: skip
while until("running").pinetune["step"] == 0:  # of sixty steps the first is over, then
    time.sleep(0.1)
jobs.pause(job.id)
assert until("paused", "succeeded").status == "paused"
checkpoint = strict.fine_tuning.jobs.checkpoints.list(job.id).data[0]
asked = rows[0]["messages"]
meanwhile = strict.chat.completions.create(model=checkpoint.fine_tuned_model_checkpoint, messages=asked, max_tokens=8)
assert meanwhile.model == checkpoint.fine_tuned_model_checkpoint and meanwhile.usage.completion_tokens > 0
assert jobs.resume(job.id).id == job.id
done = until("succeeded")
told = messages()
assert told[0] == "The job has successfully completed" and told[-1] == f"Created fine-tuning job: {job.id}"
steps = [int(message[5:].split("/")[0]) for message in told if "train mean reward=" in message]
assert steps == list(range(60, 0, -1)), steps  # each once, across the pause
assert strict.files.content(done.result_files[0]).text.startswith("step,train_mean_reward,")
assert [run.name for run in client.evals.runs.list(done.eval_id)][:2] == ["Step 0", "Step 30"]
reasoning = {"effort": "medium", "summary": "detailed"}
answer = strict.responses.create(model=done.fine_tuned_model, input=asked, reasoning=reasoning, max_output_tokens=32)
assert answer.model == done.fine_tuned_model and isinstance(answer.output_text, str)
assert answer.usage.output_tokens_details.reasoning_tokens <= answer.usage.output_tokens
assert strict.models.delete(done.fine_tuned_model).deleted
print("passed", openai.__version__)
