"""Loading `transformers` checkpoints from a folder or the hub, with errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dreamgym_env.types import ModelError


def load_checkpoint(
    path: str,
    dtype: str = "auto",
    device: str = "auto",
    device_map: Any = None,
    merge_adapter: bool = True,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """Model (in evaluation mode) and tokenizer of the checkpoint at `path`: see `TransformersModel.load`."""
    _, transformers = _libraries()
    device = device_named(device)
    options: dict[str, Any] = {"dtype": _dtype(dtype, device), "trust_remote_code": trust_remote_code}
    on_hub, path = path.startswith("hf:"), path.removeprefix("hf:")
    folder = Path(path).expanduser()
    if not on_hub and _looks_like_folder(path) and not folder.is_dir():
        raise ModelError(f"no folder {path}: give a folder with config.json and *.safetensors, or 'hf:org/name'")
    adapter = folder / "adapter_config.json"
    base = _adapter_base(adapter) if adapter.is_file() else path
    if folder.is_dir():
        _check_weights(folder)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            base, use_safetensors=True, device_map=device_map, **options
        )
        if adapter.is_file():
            model = _with_adapter(model, folder, merge_adapter)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            path if _has_tokenizer(folder) else base, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"cannot load the checkpoint {path}: {error}") from error
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer of {path} has no chat template: add chat_template.jinja to the folder or take a chat model"
        )
    return (model if device_map is not None else model.to(device)).eval(), tokenizer


def device_named(name: str) -> str:
    """A device as torch names it; "auto" is a GPU where there is one.

    Raises:
        ValueError: torch knows no such device.
    """
    torch, _ = _libraries()
    name = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"`device` must be 'auto', 'cpu', 'cuda', 'cuda:1', ..., got {name!r}") from error
    return name


def fast_bfloat16(device: str) -> bool:
    """Whether this device computes faster in bfloat16 than in float32."""
    torch, _ = _libraries()
    if not device_named(device).startswith("cpu"):
        return True
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(probe()) for probe in probes if probe is not None)


def in_bfloat16(asked: bool | None, device: str) -> bool:
    """Whether to compute in bfloat16: as asked; None asks for it where this device is faster so."""
    return fast_bfloat16(device) if asked is None else asked


def _libraries() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ModelError(
            f"local language models need torch and transformers ({error}): pip install 'dreamgym-env[train]'"
        ) from error
    return torch, transformers


def _looks_like_folder(path: str) -> bool:
    return path.startswith((".", "/", "~")) or path.count("/") != 1


def _dtype(name: str, device: str) -> Any:
    """bfloat16 on a GPU; float32 on a CPU, where bfloat16 is several times slower unless it has AMX."""
    import torch

    if name == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise ValueError(f"`dtype` must be 'auto', 'float32', 'bfloat16' or 'float16', got {name!r}")
    return dtypes[name]


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").is_file() or (folder / "tokenizer.json").is_file()


def _adapter_base(config: Path) -> str:
    try:
        base = json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError) as error:
        raise ModelError(f"{config} must be an adapter's JSON with base_model_name_or_path: {error!r}") from error
    return str(base)


def _with_adapter(model: Any, folder: Path, merge: bool) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError(f"{folder} is a LoRA adapter, which needs peft: pip install 'dreamgym-env[train]'") from error
    adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=not merge)
    return adapted.merge_and_unload() if merge else adapted


def _check_weights(folder: Path) -> None:
    """Raise a `ModelError` naming the file where a safetensors file is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{folder} has no *.safetensors file: save the checkpoint with `save_pretrained` (pickled weights, *.bin, "
            "are not read)"
        )
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                tensors.keys()
        except SafetensorError as error:
            raise ModelError(
                f"{file} is truncated or damaged ({error}): copy or download it again; it has {file.stat().st_size} "
                "bytes"
            ) from error
