"""Where weights come from: most engines load a folder, or an id of Hugging Face, and nothing else."""

from launchers.base import Launch, Refusal


def folder_or_id(launch: Launch, engine: str, *, modelscope: bool = False) -> str:
    """Of the model. Raises Refusal for one file, and for an id of ModelScope unless the engine takes those."""
    if launch.source.where == "modelscope" and not modelscope:
        raise Refusal("model", f"{engine} cannot load from ModelScope", "download the model and give its folder")
    if launch.source.where == "file":
        raise Refusal("model", f"{engine} loads a model's folder, not one file", "give the folder that holds it")
    return launch.source.value
