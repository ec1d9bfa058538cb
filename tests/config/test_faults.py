"""What is wrong in a file is said all at once: for each text, exactly what `router check` prints."""

import os
from pathlib import Path

import pytest
from checking import faults, read, starts

from router.config import ConfigError, load

ONE = "models: {a: {url: http://h/v1}}\n"
VLLM = "models: {a: {engine: vllm, environment: venv, model: org/name, "

SYNTAX: list[tuple[str | bytes, str]] = [
    ("", "1 the file is empty; declare at least one model under `models:`"),
    ("# nothing", "1 the file is empty; declare at least one model under `models:`"),
    ("- a", "1 the file must be a mapping; begin with `models:`"),
    ("a:\n\t- b", "2 not YAML: a tab; indent with spaces"),
    ("a: [1\nb: 2", "1 not YAML: what is opened here is never closed; close the bracket, or put the missing comma"),
    ("\na: 'x", "2 not YAML: what is opened here is never closed; close the bracket or the quote"),
    (
        "a:\n  b\n    c: d",
        "3 not YAML: a second `: ` in one value; put the value in quotes, mend the indents, or end the line above with "
        "the `:` it lacks",
    ),
    ("a: *b", "1 not YAML: `*` begins an alias and no anchor has that name; put the value in quotes if it is text"),
    ("a: @b", "1 not YAML: a value cannot begin with @, ` or %; put it in quotes"),
    ("a: 1\n---\nb: 1", "2 not YAML: a second document begins; keep one, and remove the `---`"),
    ("a:\n  b: \x00", "2 not YAML: a character that no text has (U+0000); remove it"),
    ("keys: [{name: a, key: ${K}}]", '1 not YAML: a variable in brackets, without quotes; write "${NAME}", in quotes'),
    ("[" * 2000, "0 not YAML: too many levels in one another; write it in fewer levels"),
    (b"a: 1\n\xff", "2 cannot be read: it is not UTF-8 text; save it as UTF-8"),
    (b"#" * (2**20 + 1), "0 cannot be read: more than 1048576 bytes; is it the right file? Name it with -c FILE"),
]


@pytest.mark.parametrize(("text", "expected"), SYNTAX, ids=lambda text: repr(text)[:24])
def test_what_is_not_yaml_is_one_fault(folder: Path, text: str | bytes, expected: str) -> None:
    assert faults(folder, text) == [expected]


FAULTS: list[tuple[str, list[str]]] = [
    ("models:", ["1 models: no model is declared; write `models:`"]),
    (VLLM + 'options: {tool_call_parser: "${HOST}", chat_template: "a${KEY}"}}}', [
        "1 models.a.options.chat_template: a variable that only `engine: command` fills; name the",
        "1 models.a.options.tool_call_parser: a variable that only `engine: command` fills; name the",
    ]),
    ("models: x", ["1 models: expected a mapping of names to models;"]),
    (ONE + ONE, ["2 models: stands twice; first in line 1; keep one"]),
    (ONE + "lisen: x\nmodel: y\nport: 1", [
        "2 lisen: unknown key; did you mean `listen`?",
        "3 model: unknown key; write it below a model",
        "4 port: unknown key; one of: models, listen,",
    ]),
    # durations and sizes
    (ONE + "max_body: 64\nbody_timeout: 0\norphan_grace: -5s\ndrain_timeout: .inf\nlog: {max_size: 0B, keep: 101}", [
        "2 max_body: 64 is not a size; write a number and a unit, like",
        "3 body_timeout: 0 is no time at all; write a duration above zero",
        '4 orphan_grace: "-5s" is not a duration; write a number and a unit',
        "5 drain_timeout: inf is not a duration;",
        "6 log.keep: 101 is out of bounds; write a number <= 100",
        '6 log.max_size: "0B" is zero; write a size from 1B',
    ]),
    (ONE + "body_timeout: 9999d\nmax_body: 9999999TiB\nlog: {keep: true}", [
        '2 body_timeout: "9999d" is too long; write at most 365d',
        '3 max_body: "9999999TiB" is too large;',
        "4 log.keep: expected a whole number, got true;",
    ]),
    # listen
    (ONE + "listen: 8000", ['2 listen: "8000" is not an address and a port; write 127.0.0.1:8000 for this machine']),
    (ONE + "listen: :8000", ['2 listen: ":8000" is not an address and a port; write 127.0.0.1:8000 for this machine']),
    (ONE + "listen: localhost", ['2 listen: "localhost" is not an address and a port; add the port']),
    (ONE + "listen: http://h:1", ['2 listen: "http://h:1" is not an address and a port; leave out the scheme']),
    (ONE + "listen: 999.0.0.1:80", ['2 listen: "999.0.0.1:80" is not an address and a port; write it like']),
    (ONE + "listen: ::1:80", ['2 listen: "::1:80" is not an address and a port; write it like']),
    (ONE + "listen: h:65536", ['2 listen: "h:65536" is not an address and a port; write it like']),
    (ONE + "listen: 0.0.0.0:80", ['2 listen: "0.0.0.0:80" can be reached from other machines and no `keys` are set;']),
    (ONE + "listen: '[::]:80'", ['2 listen: "[::]:80" can be reached from other machines']),
    # keys
    (ONE + "auth: none\nkeys: [{name: a, key: 12345678}]", ["2 auth: `auth: none` and `keys`; keep one of them"]),
    (ONE + "auth: off", ['2 auth: "off" is not known here; one of: keys, none']),
    (
        ONE + "keys:\n- {name: a, key: short}\n- {name: a, key: abcdefgh}\n- {name: b, key: abcdefgh}\n- {name: c}\n"
        "- {name: d, hash: x, key: ключключ}\n- sk-123\n- {name: '', key: a b c d e f}\n"
        "- {name: e, hash: 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}",
        [
            "3 keys[0].key: too short to be safe; use 8 characters or more",
            '4 keys[1].name: "a" is the name of keys[0]; give each key its own name',
            "5 keys[2]: the same key as keys[1]; give each client a key of its own",
            "6 keys[3]: neither `hash` nor `key`; give the key's hash, or `key: ${VARIABLE}`",
            "7 keys[4].hash: this is not a hash; write `sha256:` and the 64 digits",
            "7 keys[4].key: this is not a key; use visible ASCII characters alone",
            "8 keys[5]: expected a mapping, got text;",
            "9 keys[6].key: this is not a key; use visible ASCII characters alone",
            "9 keys[6].name: empty; write a value, or remove the line",
            "10 keys[7].hash: this is the hash of nothing; set $KEY first",
        ],
    ),
    # folders
    (ONE + f"state_dir: /{'x' * 100}", [
        "2 state_dir: sockets below it would have paths of 127 bytes, and 107 are allowed; choose a folder",
    ]),
    (ONE + "state_dir: m.gguf/state\nengines_dir: m.gguf", [
        "2 state_dir: DIR/m.gguf is not a folder; name a folder",
        "3 engines_dir: DIR/m.gguf is not a folder; name a folder",
    ]),
    # defaults: once, whatever the number of models
    ("defaults: {gpus: [9], stop_grace: 10, env: {A: true, B=C: x, D: }, url: x, environment: nowhere}\n"
     "models:\n  a: {engine: vllm, model: org/name}\n  b: {engine: vllm, model: org/name}", [
        '1 defaults.env."B=C": no name of a variable; write `NAME: value`, without `=`',
        "1 defaults.env.A: expected text, got true; put it in quotes if it is text: \"true\"",
        "1 defaults.env.D: expected text, got nothing; write a value, or \"\" for empty text",
        '1 defaults.environment: no file or folder "DIR/nowhere"; give an existing environment',
        '1 defaults.gpus[0]: GPU 9 does not exist (found: 0 (GPU-0), 1 (GPU-1)); name one that exists',
        "1 defaults.stop_grace: 10 is not a duration;",
        "1 defaults.url: unknown key; write it below each model it holds for",
    ]),
    # models and their names
    ("models:\n  a: {}\n  b: {engine: vllm, url: http://h}\n  c: 5\n  d e: {url: http://h}\n  e: {engine: vlm}", [
        "2 models.a: neither `engine` nor `url`, and no `group`; name the engine",
        "3 models.b: both `engine` and `url`; name the engine",
        "4 models.c: expected a mapping, got a number;",
        '5 models."d e": not a usable name; begin with a letter or digit',
        '6 models.e.engine: no engine is called "vlm"; did you mean `vllm`?',
    ]),
    ("models: {a: {url: http://h, aliases: [b, c, c, true]}, b: {url: http://h, aliases: c}}", [
        '1 models.a.aliases[0]: "b" is taken by models.b; give it another name',
        '1 models.a.aliases[2]: "c" is taken by models.a.aliases[1]; give it another name',
        "1 models.a.aliases[3]: expected text, got true; put it in quotes",
        "1 models.b.aliases: expected a list or a mapping, got text; put it in brackets",
    ]),
    (f"models: {{{'é' * 50}: {{url: http://h}}}}", [f"1 models.{'é' * 50}: too long a name;"]),
    # servers elsewhere
    ("models:\n  a: {url: 'https://u:p@h/v1', model: x, replicas: 2}\n  b: {url: ftp://h}\n"
     "  c: {url: http://h/v1/chat/completions}\n  d: {url: 'http://[::1'}\n  e: {url: 'http://h:0'}\n"
     "  f: {url: http://h, api_key_file: nope}\n  g: {url: http://h, api_key: x, api_key_file: m.gguf}\n"
     "  h: {url: 'http://a..b'}", [
        "2 models.a.model: is for engines that are started here; remove it",
        "2 models.a.replicas: is for engines that are started here; remove it",
        "2 models.a.url: holds a user's name or password; put the key into `api_key: ${VARIABLE}`",
        "3 models.b.url: begins with neither http:// nor https://;",
        "4 models.c.url: is an endpoint, not the base of all;",
        "5 models.d.url: not a base address;",
        "6 models.e.url: not a base address;",
        '7 models.f.api_key_file: no file "DIR/nope"; give a readable file',
        "8 models.g.api_key_file: both `api_key` and `api_key_file`; keep one of them",
        "9 models.h.url: not a base address;",
    ]),
    # engines
    ("models: {a: {engine: ollama, model: 'qwen3:8b'}, b: {engine: ollama}, c: {engine: ollama, model: ./x},"
     " d: {engine: tei, model: 'qwen3:8b', environment: venv}}", [
        "1 models.a.engine: ollama is not installed; install it as its own pages say, so that it is on PATH, or name",
        "1 models.b: ollama needs a `model`; add `model:`",
        "1 models.b.engine: ollama is not installed;",
        "1 models.c.engine: ollama is not installed;",
        '1 models.c.model: no file or folder "DIR/x";',
        '1 models.d.environment: "DIR/venv" holds no tei; install it there, or name where it is',
        '1 models.d.model: no file or folder "DIR/qwen3:8b";',
    ]),
    (VLLM + "gpus: [0, GPU-0, 7]}}", [
        "1 models.a.gpus[1]: GPU 0 stands twice; name each GPU once",
        "1 models.a.gpus[2]: GPU 7 does not exist (found: 0 (GPU-0), 1 (GPU-1)); name one that exists",
    ]),
    (VLLM + "gpus: 3}}", ["1 models.a.gpus: 3 asked for, 2 found; ask for fewer"]),
    (VLLM + "gpus: -1}}", ["1 models.a.gpus: -1 asked for, 2 found; ask for fewer"]),
    (VLLM + "gpus: '1'}}", ['1 models.a.gpus: "1" may mean a number or a GPU; write 2 without quotes for two GPUs']),
    (VLLM + "gpus: []}}", ["1 models.a.gpus: an empty list; write `none` for the CPU"]),
    (VLLM + "gpus: true}}", ["1 models.a.gpus: expected a whole number or text or a list, got true;"]),
    (VLLM + "replicas: 0, kind: pictures, api_key: x, max_model_len: 5, args: [{a: b}, true, .nan]}}", [
        "1 models.a.api_key: is for models with `url`; remove it",
        "1 models.a.args[0]: expected text, got a mapping;",
        "1 models.a.args[1]: expected text, got true; put it in quotes",
        '1 models.a.kind: "pictures" is not known here; one of: chat, embedding, rerank, transcription',
        "1 models.a.max_model_len: unknown key; write it below `options:`",
        "1 models.a.replicas: 0 is out of bounds; write a number >= 1",
    ]),
    (VLLM + "options: {max_model_len: '5', dtype: bf16, sleeep: 1, gpu_memory_utilization: .nan, sleep: yes}}}", [
        '1 models.a.options.dtype: "bf16" is not known here; did you mean `bfloat16`?',
        "1 models.a.options.gpu_memory_utilization: nan is not a number to work with;",
        "1 models.a.options.max_model_len: expected a whole number, got text; write the number, without quotes",
        "1 models.a.options.sleeep: unknown key; did you mean `sleep`?",
        "1 models.a.options.sleep: expected true or false, got text; write true or false, without quotes",
    ]),
    (VLLM + "gpus: [0, 1], options: {tensor_parallel_size: 4}}}", [
        "1 models.a.options.tensor_parallel_size: the parallel sizes need 4 GPUs and the model has 2;",
    ]),
    ("models:\n  a: {engine: vllm, environment: venv}\n  b: {engine: vllm, environment: venv, model: modelscope://}\n"
     "  c: {engine: vllm, environment: venv, model: ./absent}\n  d: {engine: vllm, environment: venv, model: ''}\n"
     "  e: {engine: vllm, environment: venv, model: 'https://huggingface.co/a/b'}", [
        "2 models.a: vllm needs a `model`; add `model:`",
        "3 models.b.model: no id after modelscope://; write it like modelscope://Qwen/Qwen3-8B",
        '4 models.c.model: no file or folder "DIR/absent"; give a folder, a file, a Hugging Face id',
        "5 models.d.model: empty; write a value, or remove the line",
        "6 models.e.model: an address, not a model; give a folder",
    ]),
    ("engines_dir: 'e e'\nmodels:\n  a: {engine: infinity, model: org/name}\n"
     "  b: {engine: llamacpp, model: m.gguf, options: {form: python}}\n"
     "  c: {engine: infinity, model: org/name, environment: venv}", [
        "3 models.a.engine: infinity is not installed; run `router install infinity --dir 'DIR/e e'`",
        "4 models.b.engine: llamacpp is not installed; run `router install llamacpp --form python --dir 'DIR/e e'`",
        '5 models.c.environment: "DIR/venv" holds no infinity; install it there, or leave `environment` out and run',
    ]),
    ("models: {a: {engine: infinity, model: org/name, environment: venv, kind: chat}}", [
        '1 models.a.environment: "DIR/venv" holds no infinity;',
        "1 models.a.kind: infinity does not serve chat; one of: embedding, rerank",
    ]),
    ("models: {a: {engine: command, options: {argv: [no-such-program]}}, b: {engine: command}}", [
        '1 models.a.options.argv[0]: no program "no-such-program"; give its whole path',
        "1 models.b.options: `argv` is missing; add `argv:`",
    ]),
    # variables
    (ONE + "listen: ${NONE}\nstate_dir: ${EMPTY}\nauth: ${1}\nmax_body: ${NONE", [
        "2 listen: the environment has no NONE; export NONE, or give a default: ${NONE:-value}",
        "3 state_dir: the environment's EMPTY is empty; export EMPTY, or give a default",
        "4 auth: not a variable; write ${NAME} or ${NAME:-default}, and $${ for a plain ${",
        "5 max_body: not a variable;",
    ]),
    ("models: {'${X}': {url: http://h}}", [
        '1 models."${X}": a variable in a key; write the key out',
        '1 models."${X}": not a usable name;',
    ]),
    (VLLM + 'args: ["a\\0b", "\\ud800"], env: {"A\\0": x}}}', [
        "1 models.a.args[0]: a character that no text has",
        "1 models.a.args[1]: a character that no text has",
        '1 models.a.env."A\\u0000": a key with a character that no text has; remove it',
    ]),
    # anchors
    ("x-a: &a [*a]\n" + ONE, ["1 x-a[0]: an anchor that contains itself; write the value out"]),
    ("x-a: !!python/none x\n" + ONE, ["1 x-a: a tag (`!`) means nothing here; put the value in quotes if it is text"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FAULTS, ids=lambda value: repr(value)[:60] if value else "")
def test_every_fault_is_told_with_its_place_and_remedy(folder: Path, text: str, expected: list[str]) -> None:
    found = faults(folder, text, {"EMPTY": "", "PATH": ""})
    assert starts(found, expected), "\n".join(found)


def test_a_file_that_is_missing_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory; name the file with -c FILE"):
        load(tmp_path / "absent.yaml", list, {})


SECRET = 'sk-"secret\\ \nvalue'


def test_no_value_of_the_environment_is_repeated(folder: Path) -> None:
    text = (
        "listen: ${S}\nauth: ${S}\nmax_body: ${S}\nstate_dir: m.gguf/${S}\n"
        "keys: [{name: '${S}', key: '${S}', hash: '${S}'}, '${S}']\n"
        "models:\n  a: {engine: llamacpp, model: '${S}.gguf', start_timeout: '${S}', kind: '${S}', gpus: ['${S}'],"
        " environment: '${S}', replicas: '${S}', options: {pooling: '${S}', threads: '${S}'}}\n"
        "  b: {url: '${S}', api_key: '${S}', api_key_file: '${S}'}\n  c: {engine: '${S}'}\n"
    )
    said = "\n".join(faults(folder, text, {"S": SECRET}))
    assert 'models.c.engine: no engine is called "${S}"' in said
    assert not any(piece in said for piece in ("secret", "value'", "sk-"))


def test_no_secret_is_repeated(folder: Path) -> None:
    text = (
        "keys: [{name: a, key: 'sk secret'}, {name: b, hash: 'sk-secret'}, {name: c, key: [sk-secret]}]\n"
        "models: {a: {url: 'http://sk:secret@h', api_key: 'sk secret'}}"
    )
    assert len(faults(folder, text)) == 5
    assert "secret" not in "".join(faults(folder, text))
    for broken in ("key: *sk-secret", "key: !sk-secret x", 'key: "\\sk-secret"', "key: &sk-secret &x y"):
        assert "secret" not in "".join(faults(folder, broken))


def test_repr_shows_no_secret(folder: Path) -> None:
    config = read(
        folder,
        "keys: [{name: a, key: hunter2-hunter2}]\nmodels:\n  a: {url: http://h, api_key: hunter2-hunter2}\n"
        "  b: {engine: vllm, environment: venv, model: a/b, env: {HF_TOKEN: hunter2-hunter2}, args: [hunter2-hunter2]}",
    )
    assert "hunter2" not in repr(config)


def test_a_pipe_in_place_of_the_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "router.yaml")
    with pytest.raises(ConfigError, match="it is no regular file"):
        load(tmp_path / "router.yaml", list)
