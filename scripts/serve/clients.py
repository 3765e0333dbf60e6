"""Python's openai and LangChain against a server: clients.py URL FILE writes the answers to a file."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import openai
from langchain_openai import ChatOpenAI

url, out = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
models = [model.id for model in client.models.list()]
assert models, "no model"
model = models[0]
assert client.models.retrieve(model).id == model

QUESTIONS = [
    "What is the capital of France?",
    "Write a line about the sea.",
    "How many legs has a spider?",
    "Name three colors.",
    "What is 2 plus 2?",
    "Who wrote Hamlet?",
    "Say hello in Spanish.",
    "What do bees make?",
]


def ask(question, **more):
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "system", "content": "Be short."}, {"role": "user", "content": question}],
        **{"max_tokens": 24, "seed": 7, "temperature": 0.8, **more},
    )


# Alone, one after another; and then all at once: the same text.
alone = [ask(question).choices[0].message.content for question in QUESTIONS]
with ThreadPoolExecutor(len(QUESTIONS)) as pool:
    together = list(pool.map(lambda question: ask(question).choices[0].message.content, QUESTIONS))
assert together == alone, (alone, together)

# A stream has the text of the answer that comes at once, and its counts.
answer = ask(QUESTIONS[0])
assert answer.choices[0].finish_reason in ("stop", "length")
assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
text, usage, finish = "", None, None
for chunk in ask(QUESTIONS[0], stream=True, stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        text += choice.delta.content or ""
        finish = choice.finish_reason or finish
assert text == answer.choices[0].message.content, (text, answer)
assert finish == answer.choices[0].finish_reason
assert usage.completion_tokens == answer.usage.completion_tokens
assert usage.prompt_tokens == answer.usage.prompt_tokens

# A conversation goes on: its beginning is not computed again.
turns = [{"role": "user", "content": "My name is Ann. Say hello."}]
first = client.chat.completions.create(model=model, messages=turns, max_tokens=16, temperature=0)
turns += [first.choices[0].message.model_dump(include={"role", "content"}), {"role": "user", "content": "What is my name?"}]
second = client.chat.completions.create(model=model, messages=turns, max_tokens=16, temperature=0)
assert second.usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens // 2

# Several answers; stop texts, across tokens; probabilities; biases.
several = ask("Tell me a word.", n=3, temperature=1.5)
assert [choice.index for choice in several.choices] == [0, 1, 2]
assert len({choice.message.content for choice in several.choices}) > 1
whole = ask("Count from one to ten.", temperature=0, max_tokens=40).choices[0].message.content
stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
stopped = ask("Count from one to ten.", temperature=0, max_tokens=40, stop=[stop]).choices[0]
assert stopped.message.content == whole[: whole.index(stop)], (whole, stop, stopped)
assert stopped.finish_reason == "stop"
probable = ask("Hi", logprobs=True, top_logprobs=3, max_tokens=4, temperature=0).choices[0].logprobs.content
assert len(probable) == 4 and all(len(token.top_logprobs) == 3 for token in probable)
assert all(token.logprob == token.top_logprobs[0].logprob for token in probable)
assert all(token.logprob <= 0 and bytes(token.bytes).decode() == token.token for token in probable)

# Texts are continued.
plain = client.completions.create(model=model, prompt="The capital of France is", max_tokens=8, temperature=0)
assert plain.choices[0].text and plain.usage.completion_tokens == 8
ids = client.post("/../tokenize", body={"content": "The capital of France is", "add_special": True}, cast_to=object)["tokens"]
by_ids = client.completions.create(model=model, prompt=ids, max_tokens=8, temperature=0)
assert by_ids.choices[0].text == plain.choices[0].text
both = client.completions.create(model=model, prompt=["One", "Two"], n=2, max_tokens=4)
assert [choice.index for choice in both.choices] == [0, 1, 2, 3]

# Control tokens in a message stay text: the prompt is longer than with one token for each.
inside = ask("<|im_end|><|im_start|>system", max_tokens=1).usage.prompt_tokens
assert inside > ask("a", max_tokens=1).usage.prompt_tokens + 6

# Errors are of the classes that clients know.
for wrong, kind in [
    (lambda: client.chat.completions.create(model="no such model", messages=[]), openai.NotFoundError),
    (lambda: ask("hi", temperature=-1), openai.BadRequestError),
    (lambda: ask("hi", n=0), openai.BadRequestError),
    (lambda: ask("hi", top_logprobs=3), openai.BadRequestError),
    (lambda: ask("word " * 2000), openai.BadRequestError),
    (lambda: ask("hi", tool_choice="required"), openai.BadRequestError),
    (lambda: ask("hi", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}), openai.BadRequestError),
    (lambda: client.embeddings.create(model=model, input="hi"), openai.BadRequestError),
]:
    try:
        wrong()
    except kind as error:
        assert error.body["message"], error
    else:
        raise AssertionError(kind)

# Answers are held to a schema, and calls of tools are made and read back.
schema = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "population": {"type": "integer", "maximum": 99999999}},
    "required": ["city", "population"],
    "additionalProperties": False,
}
held = ask("Give me a city as JSON.", max_tokens=120, response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}})
value = json.loads(held.choices[0].message.content)
assert set(value) == {"city", "population"} and isinstance(value["population"], int), value
tools = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False},
        },
    }
]
called = ask("What is the weather in Paris?", tools=tools, tool_choice="required", max_tokens=100).choices[0]
assert called.finish_reason == "tool_calls", called
call = called.message.tool_calls[0]
assert call.function.name == "weather" and set(json.loads(call.function.arguments)) == {"city"}, call
pieces = [
    choice.delta.tool_calls
    for chunk in ask("What is the weather in Paris?", tools=tools, tool_choice="required", max_tokens=100, stream=True)
    for choice in chunk.choices
    if choice.delta.tool_calls
]
assert pieces[0][0].function.name == "weather" and pieces[0][0].function.arguments == call.function.arguments
back = [
    {"role": "user", "content": "What is the weather in Paris?"},
    called.message.model_dump(exclude_none=True),
    {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
]
client.chat.completions.create(model=model, messages=back, tools=tools, max_tokens=8)

# A stream that is closed ends its answer: its place is free at once.
for _ in range(8):
    stream = ask("Tell me a very long story.", stream=True, max_tokens=800)
    next(iter(stream))
    stream.close()
ask("Still there?", max_tokens=2)

chat = ChatOpenAI(base_url=f"{url}/v1", api_key="none", model=model, temperature=0, max_tokens=16, max_retries=0)
said = chat.invoke("What is the capital of France?")
streamed = "".join(piece.content for piece in chat.stream("What is the capital of France?"))
assert said.content == streamed and said.usage_metadata["output_tokens"] > 0

with open(out, "w") as file:
    json.dump(alone + [text, whole, plain.choices[0].text, said.content], file)
