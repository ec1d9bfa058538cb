"""What is wrong in the settings for clients: changes of requests, names, groups, fallbacks."""

from pathlib import Path

import pytest
from checking import faults, starts

VLLM = "models: {a: {engine: vllm, environment: venv, model: org/name, "

FAULTS: list[tuple[str, list[str]]] = [
    # changes of requests
    ("models:\n  a:\n    url: http://h\n    drop: [stream, model, model.x, a..b, '', .a, u, x.y]\n"
     "    set: {stream: true, u: 1, x: {y: s3cret}, f: [{g: .inf}], n: 99999999999999999999}\n"
     "    default: {model: s3cret, d: .nan}", [
        "4 models.a.drop[0]: the router's own: the form of the answer follows from it; remove it",
        "4 models.a.drop[1]: the router's own: it is how a request finds its engine; remove it",
        "4 models.a.drop[2]: the router's own: it is how a request",
        "4 models.a.drop[3]: a dot without a name; write names with one dot between",
        "4 models.a.drop[4]: empty; write a value",
        "4 models.a.drop[5]: a dot without a name;",
        '4 models.a.drop[6]: "u" stands in `set` too; keep one of them',
        '4 models.a.drop[7]: "x.y" stands in `set` too;',
        "5 models.a.set.f[0].g: not a number that JSON has; write a finite number",
        "5 models.a.set.n: too large a number for JSON; write a smaller one, or put it in quotes",
        "5 models.a.set.stream: the router's own: the form",
        "6 models.a.default.d: not a number that JSON has;",
        "6 models.a.default.model: the router's own: it is how",
    ]),
    ("models:\n  a: {url: http://h, drop: user, set: [a], default: 5}\n"
     "  b: {url: http://h, aliases: {c: {set: {model: x}, sett: 1, drop: [model]}, d: 5, '': , 'e e': }}", [
        "2 models.a.default: expected a mapping, got a number;",
        "2 models.a.drop: expected a list, got text; put it in brackets",
        "2 models.a.set: expected a mapping, got a list;",
        '3 models.b.aliases."e e": not a usable name; begin with a letter',
        "3 models.b.aliases.c.drop[0]: the router's own:",
        "3 models.b.aliases.c.set.model: the router's own:",
        "3 models.b.aliases.c.sett: unknown key; did you mean `set`?",
        "3 models.b.aliases.d: expected a mapping, got a number;",
    ]),
    ("models: {a: {url: http://h, aliases: {'': }}}", ["1 models.a.aliases: empty; write a value, or remove"]),
    # names, and models that lead to others
    ("models:\n  a: {url: http://h, aliases: {b: , g: }}\n  b: {url: http://h, aliases: [1, 1, h]}\n"
     "  g: {group: {a: 1}, aliases: {h: }}\n"
     "  v: {engine: vllm, environment: venv, model: org/name, lora: {b: org/x, v: org/x, n n: org/x, ok: org/x}}\n"
     "  w: {url: http://h, aliases: [ok]}", [
        '2 models.a.aliases.b: "b" is taken by models.b; give it another name',
        '2 models.a.aliases.g: "g" is taken by models.g;',
        '3 models.b.aliases[1]: "1" is taken by models.b.aliases[0];',
        '4 models.g.aliases.h: "h" is taken by models.b.aliases[2];',
        '5 models.v.lora."n n": not a usable name;',
        '5 models.v.lora.b: "b" is taken by models.b;',
        '5 models.v.lora.v: "v" is taken by models.v;',
        '6 models.w.aliases[0]: "ok" is taken by models.v.lora.ok;',
    ]),
    ("models:\n  one: {url: http://h, aliases: [uno], fallback: [two, one, uno, two, onne, nowhere, true]}\n"
     "  two: {url: http://h, fallback: [both, one]}\n  both: {group: {one: 1, uno: 2}, fallback: [both, x]}", [
        "2 models.one.fallback[6]: expected text, got true;",
        '4 models.both.fallback[0]: "both" leads back to itself; name another model',
        '4 models.both.fallback[1]: no model is called "x"; declare it below `models`, or remove it',
    ]),
    ("models:\n  one: {url: http://h, aliases: [uno], fallback: [two, one, uno, two, onne, nowhere]}\n"
     "  two: {url: http://h}", [
        '2 models.one.fallback[1]: "one" leads back to itself; name another model',
        '2 models.one.fallback[2]: "uno" leads back to itself;',
        '2 models.one.fallback[3]: "two" stands twice; name each model once',
        '2 models.one.fallback[4]: no model is called "onne"; did you mean `one`?',
        '2 models.one.fallback[5]: no model is called "nowhere"; declare it below `models`',
    ]),
    ("models:\n  a: {url: http://h}\n  e: {url: http://h, kind: embedding}\n"
     "  f: {group: {a: 0, e: 1001, g: x}}\n  g: {group: {a: 1}, aliases: [gg]}\n"
     "  h: {group: {a: 1, e: 1, h: 1, g: 1, gg: 1, aa: 1}}\n  i: {group: {}}\n  j: {group: [a]}\n  k: {group: }\n"
     "  l: {group: {a: 1}, engine: vllm, url: http://h, kind: chat, queue_size: 1, max_inputs: 1}", [
        "4 models.f.group.a: 0 is out of bounds; write a number >= 1",
        "4 models.f.group.e: 1001 is out of bounds; write a number <= 1000",
        "4 models.f.group.g: expected a whole number, got text;",
        "6 models.h.group: its members are of several kinds: chat, embedding; make a group of each kind",
        '6 models.h.group.aa: no model is called "aa"; did you mean `a`?',
        "6 models.h.group.g: is a group itself; name its members here",
        "6 models.h.group.gg: is a group itself;",
        '6 models.h.group.h: "h" leads back to itself;',
        "7 models.i.group: empty; write a value, or remove the line",
        "8 models.j.group: expected a mapping, got a list; write {a: 1}, each with its weight",
        "9 models.k: neither `engine` nor `url`, and no `group`;",
        "10 models.l.engine: is not for a group; remove it, or write it below the members",
        "10 models.l.kind: is not for a group;",
        "10 models.l.max_inputs: is not for a group;",
        "10 models.l.queue_size: is not for a group;",
        "10 models.l.url: is not for a group;",
    ]),
    ("models:\n  e: {url: http://h, kind: embedding, fallback: [r, g, a]}\n"
     "  r: {url: http://h, kind: rerank, aliases: [a]}\n"
     "  g: {group: {r: 1}, fallback: [e]}\n  both: {group: {r: 1, r2: 1}, fallback: [r2, g]}\n"
     "  r2: {url: http://h, kind: rerank, fallback: [r, only, both]}\n  only: {group: {r2: 2}}", [
        '2 models.e.fallback[0]: "r" is rerank, and this one is embedding; name a model of the kind embedding',
        '2 models.e.fallback[1]: "g" is rerank,',
        '2 models.e.fallback[2]: "a" is rerank,',
        '4 models.g.fallback[0]: "e" is embedding, and this one is rerank;',
        '5 models.both.fallback[0]: "r2" leads back to itself; name another model',
        '5 models.both.fallback[1]: "g" leads back to itself;',
        '6 models.r2.fallback[1]: "only" leads back to itself;',
    ]),
    # what is done for clients
    ("defaults: {retry_budget: 1.1, keepalive: 5, fallback: [a]}\nmodels:\n"
     "  a: {url: http://h, normalize_scores: true, decode_openai_tokens: true, max_inputs: 1, lora: {x: org/y}}\n"
     "  b: {url: http://h, kind: rerank, max_inputs: 0}\n"
     "  c: {url: http://h, info: {id: x, dimensions: '8', model_ability: chat, model_type: 1, n: .nan, ok: [1]}}", [
        "1 defaults.fallback: unknown key; write it below each model it holds for",
        "1 defaults.keepalive: 5 is not a duration;",
        "1 defaults.retry_budget: 1.1 is out of bounds; write a share from 0 to 1: 0.2 is a fifth",
        "3 models.a.decode_openai_tokens: is for embedding models, and this one is chat; remove it, or add `kind: emb",
        "3 models.a.lora: is for engines that are started here; remove it",
        "3 models.a.max_inputs: is for embedding models,",
        "3 models.a.normalize_scores: is for rerank models, and this one is chat;",
        "4 models.b.max_inputs: 0 is out of bounds;",
        "5 models.c.info.dimensions: clients expect a whole number here; write 1 or more",
        "5 models.c.info.id: the router's own; remove it",
        "5 models.c.info.model_ability: clients expect a list of words here;",
        "5 models.c.info.model_type: clients expect text here;",
        "5 models.c.info.n: not a number that JSON has;",
    ]),
    ("models:\n  a: {url: http://h, info: {model_ability: , created: yesterday, max_tokens: null, mine: null}}\n"
     "  b: {url: http://h, info: {root: x, kind: chat, ready: true, replica: 1}}", [
        "2 models.a.info.created: the router's own; remove it",
        "2 models.a.info.max_tokens: clients expect a whole number here;",
        "2 models.a.info.model_ability: clients expect a list of words here;",
        "3 models.b.info.kind: the router's own; remove it",
        "3 models.b.info.ready: the router's own;",
        "3 models.b.info.replica: the router's own;",
        "3 models.b.info.root: the router's own;",
    ]),
    ("models:\n  a: {url: http://h, retry_budget: 20%, keepalive: off, max_inputs: many, connect_timeout: off}\n"
     "  b: {url: http://h, retry_budget: '0.2', keepalive: no, kind: embedding, max_inputs: '5'}\n"
     "  c: {url: http://h, queue_timeout: false, retry_budget: -1}", [
        '2 models.a.connect_timeout: "off" is not a duration; write a number and a unit, like 500ms, 30s, 10m or 1h30m',
        '2 models.a.keepalive: "off" is not a duration; write a number and a unit, like 500ms, 30s, 10m or 1h30m, or 0 '
        "for none",
        "2 models.a.max_inputs: expected a whole number, got text; write a whole number",
        "2 models.a.retry_budget: expected a number, got text; write a share from 0 to 1: 0.2 is a fifth",
        '3 models.b.keepalive: "no" is not a duration;',
        "3 models.b.max_inputs: expected a whole number, got text; write the number, without quotes",
        "3 models.b.retry_budget: expected a number, got text; write a share",
        "4 models.c.queue_timeout: false is not a duration;",
        "4 models.c.retry_budget: -1 is out of bounds; write a share",
    ]),
    ("models:\n  a: {url: http://h, aliases: [x, nothink: {set: {a: s3cret}}, {y: }]}\n"
     "  b: {group: [a, c], aliases: [z: 5]}", [
        "2 models.a.aliases[1]: expected text, got a mapping; write aliases as a mapping: {nothink: {set: …}}",
        "2 models.a.aliases[2]: expected text, got a mapping; write aliases as a mapping: {y: …}",
        "3 models.b.aliases[0]: expected text, got a mapping; write aliases as a mapping: {z: …}",
        "3 models.b.group: expected a mapping, got a list; write {a: 1, c: 1}, each with its weight",
    ]),
    ("model:\n  a: {url: http://h}", [
        "1 model: unknown key; did you mean `models`?",
        "1 models: no model is declared;",
    ]),
    ("model: x\nmodels:\n  a: {url: http://h}", ["1 model: unknown key; write it below a model"]),
    ("models:\n  a: {url: http://h, info: {context_length: -1, max_tokens: 0, model_abilities: [chat], family: x, "
     "max_tokenz: 5, context: 1}}", [
        "2 models.a.info.context_length: clients expect a whole number here; write 1 or more, like 32768",
        "2 models.a.info.max_tokens: clients expect a whole number here; write 1 or more",
        "2 models.a.info.max_tokenz: not what clients read; did you mean `max_tokens`?",
        "2 models.a.info.model_abilities: not what clients read; did you mean `model_ability`?",
    ]),
    ("models:\n  a:\n    url: http://h\n    set: {chat_template_kwargs.enable_thinking: false, ok: {a.b: 1}}\n"
     "    default: {a.b.c: s3cret}\n    aliases: {x: {set: {a.b: 1}}}", [
        "4 models.a.set.chat_template_kwargs.enable_thinking: a dot leads nowhere in `set`; write "
        "{chat_template_kwargs: {enable_thinking: false}}",
        "5 models.a.default.a.b.c: a dot leads nowhere in `default`; write {a: {b: {c: …}}}",
        "6 models.a.aliases.x.set.a.b: a dot leads nowhere in `set`; write {a: {b: …}}",
    ]),
    (VLLM + "lora: {x: ./nowhere, y: 'modelscope://org/y', z: 'http://h', w: }}}", [
        "1 models.a.lora.w: expected text, got nothing;",
    ]),
    (VLLM + "lora: {x: ./nowhere, y: 'modelscope://org/y', z: 'http://h'}}}", [
        '1 models.a.lora.x: no file or folder "DIR/nowhere"; give a folder, a file, a Hugging Face id',
        "1 models.a.lora.y: an adapter on ModelScope; download it, and give its folder",
        "1 models.a.lora.z: an address, not a model; give a folder",
    ]),
    ("models: {a: {engine: transformers, environment: venv, model: org/name, lora: {b: org/x}}}", [
        "1 models.a.lora: transformers serve has no LoRA adapters; use vllm",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FAULTS, ids=lambda value: repr(value)[:60] if value else "")
def test_every_fault_is_told_with_its_place_and_remedy(folder: Path, text: str, expected: list[str]) -> None:
    found = faults(folder, text)
    assert starts(found, expected), "\n".join(found)


def test_no_value_of_a_request_is_repeated(folder: Path) -> None:
    text = (
        "models:\n  a:\n    url: http://h\n    set: {model: s3cret, stream: [s3cret], x: .nan}\n    drop: [x.s]\n"
        "    aliases: {b: {default: {model: s3cret}, set: s3cret}, c: [s3cret]}\n    default: s3cret"
    )
    assert len(faults(folder, text)) == 7
    assert "s3cret" not in "".join(faults(folder, text))
