"""What is known of a model besides what the file of the router says."""

import msgspec


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """From its files, the engine's options and its flags; None, or the default, where nobody can tell.

    `format`: of the weights, as Xinference names it (pytorch, gguf, awq, gptq, …). `family`: its architecture.
    `context`: tokens of one request, prompt and answer together; of an encoder those of one text. `dimensions`: of an
    embedding. `chats`: False where its files have no chat template, so that its engine can only complete texts.
    `complete`: there is nothing more to be found out, however often one looks.
    """

    format: str = "pytorch"
    family: str | None = None
    quantization: str | None = None
    context: int | None = None
    dimensions: int | None = None
    chats: bool = True
    tools: bool = False
    vision: bool = False
    audio: bool = False
    reasoning: bool = False
    replicas: int = 1
    complete: bool = True
