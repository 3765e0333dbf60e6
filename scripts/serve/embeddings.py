"""Python's openai and LangChain against a server of embeddings: embeddings.py URL EXPECTED.

EXPECTED is what `polychord embed --json TEXT...` printed for the texts below.
"""

import json
import math
import sys

import openai
from langchain_openai import OpenAIEmbeddings

url, expected = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
model = client.models.list().data[0].id
TEXTS = ["a quick brown fox", "embeddings", "one more text"]
with open(expected) as file:
    expected = json.load(file)["embeddings"]
ids = [entry["ids"] for entry in expected]
expected = [entry["embedding"] for entry in expected]


def same(a, b):
    # Both are the shortest decimals of the same 32-bit floats, or these as 64-bit ones.
    return all(math.isclose(x, y, rel_tol=1e-7, abs_tol=1e-12) for x, y in zip(a, b, strict=True))


def vectors(answer):
    assert [entry.index for entry in answer.data] == list(range(len(answer.data)))
    return [entry.embedding for entry in answer.data]


# The client asks for base64 where nothing is said, and decodes it.
answer = client.embeddings.create(model=model, input=TEXTS)
assert all(same(*pair) for pair in zip(vectors(answer), expected, strict=True))
assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(len, ids)), answer.usage
numbers = client.embeddings.create(model=model, input=TEXTS, encoding_format="float")
assert all(same(*pair) for pair in zip(vectors(numbers), expected, strict=True))
assert same(vectors(client.embeddings.create(model=model, input=TEXTS[0]))[0], expected[0])
by_ids = client.embeddings.create(model=model, input=ids)
assert all(same(*pair) for pair in zip(vectors(by_ids), expected, strict=True))
assert same(vectors(client.embeddings.create(model=model, input=ids[1]))[0], expected[1])

for wrong in [
    lambda: client.embeddings.create(model=model, input="a", dimensions=8),
    lambda: client.embeddings.create(model=model, input=""),
    lambda: client.embeddings.create(model=model, input=["a " * 100_000]),
    lambda: client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}]),
    lambda: client.completions.create(model=model, prompt="hi"),
]:
    try:
        wrong()
    except openai.BadRequestError as error:
        assert error.body["message"], error
    else:
        raise AssertionError("it is not refused")

chain = OpenAIEmbeddings(
    base_url=f"{url}/v1", api_key="none", model=model, check_embedding_ctx_length=False, max_retries=0
)
assert all(same(*pair) for pair in zip(chain.embed_documents(TEXTS), expected, strict=True))
assert same(chain.embed_query(TEXTS[1]), expected[1])
