#!/usr/bin/env python3
"""Renders the chat templates of real models by Python's Jinja, and writes digests to models.json.

    pip install jinja2==3.1.6
    model/tests/data/chat/make_model_expectations.py TEMPLATES     # a folder, as scripts/test makes it

With a second argument, all texts go there, as JSON, for comparing by eye.
"""

import hashlib
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

from make_expectations import environment

NOW = 1_700_000_000
CALL = {
    "id": "call_12345",
    "type": "function",
    "function": {
        "name": "get_weather",
        "arguments": {"city": "Paris <b>", "days": 2, "deep": {"a": [1, 2.5, None, True]}},
    },
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'Tells the "weather" — é',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "A city"},
                    "days": {"type": "integer", "enum": [1, 2, 3]},
                    "deep": {
                        "type": "object",
                        "properties": {"a": {"type": "array", "items": {"type": "number"}}},
                    },
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]


def message(role, content, **more):
    return {"role": role, "content": content, **more}


RESULT = message("tool", '{"t": 20}', name="get_weather", tool_call_id="call_12345")
CONVERSATIONS = {
    "question": [message("user", "Hi <b>\n")],
    "talk": [
        message("system", " Be brief. "),
        message("user", "What is 2 + 2?"),
        message("assistant", "It's 4"),
        message("user", '"And" é 日本 \\ 3?'),
    ],
    "thought": [
        message("user", "x"),
        message("assistant", "yes", reasoning_content="because\n of it"),
        message("user", "y"),
    ],
    "thought aloud": [
        message("user", "x"),
        message("assistant", "<think>\nhm\n</think>\n\nyes"),
        message("user", "y"),
    ],
    "tool": [
        message("system", "S"),
        message("user", "weather?"),
        message("assistant", "", tool_calls=[CALL]),
        RESULT,
        message("assistant", "It is 20."),
        message("user", "thanks"),
    ],
    "tool at the end": [
        message("user", "weather?"),
        message("assistant", "Let me see.", tool_calls=[CALL]),
        RESULT,
    ],
    "out of order": [message("user", "a"), message("user", "b")],
    "developer": [message("developer", "D"), message("user", "a")],
}
VARIABLES = [
    {},
    {"enable_thinking": True, "thinking": True},
    {"enable_thinking": False, "thinking": False},
    {"reasoning_effort": "high"},
]


# Not for Python: the first writes as JSON what is no list there, and the second marks text as safe,
# so that Python escapes what is joined to it as HTML.
OTHERS = ["llama-cpp-deepseek-r1.jinja", "meetkai-functionary-medium-v3.1.jinja"]


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def copy(value):
    return json.loads(json.dumps(value))


def cases():
    for variables in range(len(VARIABLES)):
        for tools in (False, True):
            for add in (True, False):
                yield variables, tools, add


def main():
    env = environment()
    env.globals["strftime_now"] = lambda form: datetime.fromtimestamp(NOW, timezone.utc).strftime(form)
    digests, results, texts = {}, {}, []
    for path in sorted(Path(sys.argv[1]).glob("*.jinja")):
        if path.name in OTHERS:
            continue
        source = path.read_text(encoding="utf-8")
        digests[path.name] = digest(source)
        template = env.from_string(source)
        results[path.name] = {}
        for name, messages in CONVERSATIONS.items():
            all_texts = ""
            for variables, tools, add in cases():
                try:
                    text = template.render(
                        messages=copy(messages),
                        add_generation_prompt=add,
                        bos_token="<s>",
                        eos_token="</s>",
                        tools=copy(TOOLS) if tools else None,
                        documents=None,
                        **VARIABLES[variables],
                    )
                    all_texts += text + "\0"
                except Exception as error:  # Whatever it is, the conversation is refused.
                    text = f"{type(error).__name__}: {error}"
                    all_texts += "\1"
                texts.append([path.name, name, variables, tools, add, text])
            results[path.name][name] = digest(all_texts)
    expectations = {
        "conversations": CONVERSATIONS,
        "variables": VARIABLES,
        "tools": TOOLS,
        "now": NOW,
        "templates": digests,
        "texts": results,
    }
    lines = [f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in expectations.items()]
    text = "{\n" + ",\n".join(lines).replace("}, ", "},\n ") + "\n}\n"
    (Path(__file__).parent / "models.json").write_text(text, encoding="utf-8")
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
