"""Run by old and new Python clients alike (`surface.py BASE_URL`): the calls of a fine-tuning script, strictly validated by the client."""

import hashlib
import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, _strict_response_validation=True)
lenient = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
rows = [{"messages": [{"role": "user", "content": f"Say {i}."}], "reference_answer": str(i)} for i in range(12)]
content = "\n".join(json.dumps(row) for row in rows).encode()
same = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "{{item.reference_answer}}",
    "operation": "eq",
}

# files
file = client.files.create(file=("train.jsonl", content), purpose="fine-tune")
assert client.files.wait_for_processing(file.id).status == "processed"
assert client.files.content(file.id).text.encode() == content
assert file.id in [item.id for item in client.files.list(purpose="fine-tune", limit=1)]
assert client.files.list(limit=1).has_more in (True, False, None)

# graders
graders = client.fine_tuning.alpha.graders
ran = graders.run(grader=same, model_sample="7", item={"reference_answer": "7"})
assert ran.reward == 1.0 and ran.metadata.errors.other_error is False
assert graders.validate(grader=same).grader.type == "string_check"
try:
    graders.validate(grader={"type": "nope"})
    raise AssertionError("a wrong grader passed")
except openai.BadRequestError as error:
    assert error.param == "grader.type" and error.type == "invalid_request_error" and error.request_id.startswith("req_")

# jobs
judge = {
    "type": "score_model",
    "name": "judge",
    "model": "gpt-4.1",
    "input": [{"role": "user", "content": "{{item.messages}} {{sample.output_text}}"}],
}
multi = {"type": "multi", "graders": {"a": same, "b": judge}, "calculate_output": "0.5 * a + 0.5 * b"}
method = {"type": "reinforcement", "reinforcement": {"grader": multi, "response_format": None, "hyperparameters": {"n_epochs": 2}}}
body = {"model": "pinetune-mini", "training_file": file.id, "validation_file": file.id, "seed": 7, "suffix": "old-client"}
job = lenient.fine_tuning.jobs.create(method=method, **body)
assert (job.status, job.seed, job.error) == ("validating_files", 7, None)
plain = {"type": "reinforcement", "reinforcement": {"grader": same}}
job = client.fine_tuning.jobs.create(method=plain, extra_body={"metadata": {"team": "x"}}, **body)
assert client.fine_tuning.jobs.retrieve(job.id).id == job.id
assert len(list(client.fine_tuning.jobs.list_events(job.id, limit=1))) == 2
assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
assert next(iter(client.fine_tuning.jobs.list(extra_query={"metadata[team]": "x"}))).id == job.id
assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
try:
    client.fine_tuning.jobs.cancel(job.id)
    raise AssertionError("cancelled twice")
except openai.BadRequestError:
    pass

# uploads
upload = client.uploads.upload_file_chunked(
    file=content, filename="big.jsonl", bytes=len(content), mime_type="text/jsonl", purpose="fine-tune", part_size=300,
    md5=hashlib.md5(content).hexdigest(),
)  # fmt: skip
assert upload.status == "completed" and client.files.content(upload.file.id).read() == content

# models, errors
assert "pinetune-mini" in [model.id for model in client.models.list()]
assert client.models.retrieve("pinetune-mini").object == "model"
try:
    client.models.retrieve("ft:Qwen/Qwen3-0.6B:me::12345678")
    raise AssertionError("found a model that is not there")
except openai.NotFoundError as error:
    assert error.code == "model_not_found"
try:
    client.chat.completions.create(model="pinetune-mini", messages=[{"role": "user", "content": "x"}])
    raise AssertionError("answered without serving")
except openai.InternalServerError as error:
    assert error.status_code == 503
assert client.files.delete(upload.file.id).deleted is True
print("passed", openai.__version__)
