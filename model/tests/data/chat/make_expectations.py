#!/usr/bin/env python3
"""Renders templates/*.jinja by Python's Jinja as Hugging Face sets it up, into expected.json.

    pip install jinja2==3.1.6
    model/tests/data/chat/make_expectations.py
"""

import json
from pathlib import Path

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = Path(__file__).parent

CONVERSATIONS = {
    "question": [("user", "Hi <b>\n")],
    "talk": [
        ("system", " Be brief. "),
        ("user", "What is 2 + 2?"),
        ("assistant", "Hello, <think>\neasy\n</think>\n\nit's 4"),
        ("user", '"And" é 日本 \\ 3?'),
    ],
    "out of order": [("user", "a"), ("user", "b")],
}


class Generation(Extension):
    """Marks what the model says; without effect on the text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body, lineno=line)


def raise_exception(message):
    raise TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def render(source, conversation, add_generation_prompt):
    messages = [{"role": role, "content": content} for role, content in conversation]
    try:
        text = environment().from_string(source).render(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            bos_token="<s>",
            eos_token="</s>",
            tools=None,
            documents=None,
        )
        return {"text": text}
    except TemplateError as error:
        return {"refused": str(error)}


def main():
    cases = []
    for path in sorted((HERE / "templates").glob("*.jinja")):
        for name, conversation in CONVERSATIONS.items():
            for add in (True, False):
                result = render(path.read_text(), conversation, add)
                messages = [{"role": role, "content": content} for role, content in conversation]
                case = {"template": path.name, "conversation": name, "messages": messages}
                cases.append({**case, "add_generation_prompt": add, **result})
    text = json.dumps(cases, ensure_ascii=False, indent=1)
    (HERE / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
