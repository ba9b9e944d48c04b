"""Checkpoints that survive a kill: written beside, then renamed; tensors as safetensors, all else as JSON, no pickle.

checkpoints/update_000010/
    policy/                 what `transformers` saves: config, tokenizer, model.safetensors
    critic.safetensors      the critic's weights, where the algorithm has one
    average.safetensors     the average of the weights, where the run keeps one
    optimizer.safetensors   the optimizer's tensors, named `<parameter index>.<name>`
    state.json              the optimizer's settings and whatever the trainer adds
    manifest.json           size and SHA-256 of every other file; written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamgym_env.types import DataError

from .disk import CHECKPOINTS, writing

PARTIAL = ".partial-"
"""How the names of files and folders begin that are being written."""
_PREFIX = "update_"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
"""The files without which no weights are read from a folder."""


def save_checkpoint(
    folder: Path,
    update: int,
    model: Any,
    tokenizer: Any,
    optimizer: Any,
    state: Mapping[str, Any],
    keep_last: int = 2,
    files: Mapping[str, str] | None = None,
    modules: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `folder/update_<number>` whole or not at all, then deletes all but the newest `keep_last`.

    `state` must be JSON; `files` are further text files by name, `modules` further networks by the name of their
    safetensors file. Gives the path of the checkpoint.

    Raises:
        ValueError: `keep_last` < 1.
        DataError: it could not be written, as where the disk is full; the checkpoints before it stay.
    """
    if keep_last < 1:
        raise ValueError(f"`keep_last` must be >= 1, got {keep_last}")
    final = folder / f"{_PREFIX}{update:06d}"
    partial = folder / f"{PARTIAL}{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    older = [path.name for path in list_checkpoints(folder)]
    kept = f"checkpoint {older[-1]} is whole" if older else "there is no checkpoint before it"
    with writing(final, kept, cleared=partial):
        save_policy(partial / "policy", model, tokenizer)
        settings = _save_optimizer(partial / "optimizer.safetensors", optimizer)
        text = json.dumps({"update": update, "optimizer": settings, **state}, indent=1)
        for name, content in {"state.json": text, **(files or {})}.items():
            (partial / name).write_text(content, encoding="utf-8")
        for name, module in (modules or {}).items():
            save_module(partial / name, module)
        (partial / "manifest.json").write_text(json.dumps(_manifest(partial), indent=1), encoding="utf-8")
        flush(partial)
    if final.exists():  # a resumed run that passes here again
        shutil.rmtree(final)
    os.replace(partial, final)
    _prune(folder, keep_last)
    return final


def check_start(output: Path, resume: bool, prefix: str = _PREFIX) -> None:
    """Stops a run that would begin anew among the checkpoints of an earlier one, which it would overwrite or mix with
    its own.

    Raises:
        DataError: `output` has checkpoints, and `resume` is False.
    """
    found = [] if resume else [path.name for path in (output / "checkpoints").glob(f"{prefix}[0-9]*")]
    if found:
        newest = max(found, key=lambda name: (len(name), name))  # DPO's numbers have no leading zeros
        raise DataError(
            f"{output} has checkpoints of an earlier run ({newest}): go on from there with `resume`, give another "
            "output folder, or delete this one"
        )


def save_policy(folder: Path, model: Any, tokenizer: Any) -> None:
    """A checkpoint folder that `from_pretrained` reads: safetensors, config, tokenizer with its chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_final_policy(folder: Path, model: Any, tokenizer: Any, kept: str | None = CHECKPOINTS) -> None:
    """`save_policy`, whole or not at all: a folder that is there is a finished policy.

    Raises:
        DataError: it could not be written; the policy that was there before stays. `kept`: see `disk.writing`.
    """
    partial = folder.with_name(f"{PARTIAL}{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    with writing(folder, kept, cleared=partial):
        save_policy(partial, model, tokenizer)
        flush(partial)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def save_policy_into(
    folder: Path, model: Any, tokenizer: Any, files: Mapping[str, str] | None = None, kept: str | None = CHECKPOINTS
) -> None:
    """`save_policy` into a folder that holds more, such as the checkpoints, with further text files by name. All is
    written beside and then moved, the weights last: a folder that a model can be loaded from has all of it.

    Raises:
        DataError: it could not be written; the policy that was there before stays. `kept`: see `disk.writing`.
    """
    partial = folder / f"{PARTIAL}policy"
    shutil.rmtree(partial, ignore_errors=True)
    with writing(folder, kept, cleared=partial):
        save_policy(partial, model, tokenizer)
        for name, content in (files or {}).items():
            (partial / name).write_text(content, encoding="utf-8")
        flush(partial)
    for name in _WEIGHTS:
        (folder / name).unlink(missing_ok=True)
    for path in sorted(partial.iterdir(), key=lambda path: path.name in _WEIGHTS):
        if path.is_dir():  # further chat templates
            shutil.rmtree(folder / path.name, ignore_errors=True)
        os.replace(path, folder / path.name)
    partial.rmdir()


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a policy: its weights are written last (`save_policy_into`)."""
    return any((folder / name).exists() for name in _WEIGHTS)


def save_module(file: Path, module: Any) -> None:
    """The weights of any network as safetensors."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}, file)


def save_final_module(file: Path, module: Any, kept: str | None = CHECKPOINTS) -> None:
    """`save_module`, whole or not at all.

    Raises:
        DataError: it could not be written; the file that was there before stays. `kept`: see `disk.writing`.
    """
    partial = file.with_name(f"{PARTIAL}{file.name}")
    with writing(file, kept, cleared=partial):
        save_module(partial, module)
        flush(partial)
    os.replace(partial, file)


def load_module(file: Path, module: Any) -> None:
    """Puts the weights that `save_module` wrote into `module`.

    Raises:
        DataError: the file cannot be read, or belongs to another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(file))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    except RuntimeError as error:
        raise DataError(f"{file} belongs to another network: {error}") from error


def load_weights(folder: Path, model: Any) -> None:
    """Puts the weights of a policy's folder into the model that it was saved from; of one with adapters these alone.

    Raises:
        DataError: the weights cannot be read, or belong to another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, load_model

    try:
        if hasattr(model, "peft_config"):
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        else:
            load_model(model, folder / "model.safetensors", strict=False)  # tied weights are stored once
    except (SafetensorError, OSError) as error:
        raise DataError(f"the weights in {folder} cannot be read: {error}") from error
    except RuntimeError as error:
        raise DataError(f"the weights in {folder} belong to another network: {error}") from error


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first. What a kill left half-written is not among them."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def find_checkpoint(folder: Path, fall_back: bool = False) -> Path | None:
    """The newest checkpoint, checked against its manifest; None where there is none.

    With `fall_back` a damaged one is passed over for the one before it.

    Raises:
        DataError: the newest is damaged and `fall_back` is False, or all are.
    """
    found = list_checkpoints(folder)
    for path in reversed(found):
        try:
            verify_checkpoint(path)
        except DataError:
            if not fall_back or path == found[0]:
                raise
        else:
            return path
    return None


def verify_checkpoint(path: Path) -> None:
    """Compares every file with the manifest.

    Raises:
        DataError: a file is missing, cut short or changed; names it and says what to do.
    """
    remedy = f"delete {path} or resume with fall_back to use the checkpoint before it"
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        expected = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path / 'manifest.json'} must list the checkpoint's files ({error}); {remedy}") from error
    for name, (size, digest) in expected.items():
        file = path / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            got = "no such file" if found is None else f"{found} bytes"
            raise DataError(f"{file} must have {size} bytes, got {got}; {remedy}")
        if _sha256(file) != digest:
            raise DataError(f"{file} has other content than was saved (SHA-256 differs); {remedy}")


def load_state(path: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint."""
    state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
    return state


def load_optimizer(path: Path, optimizer: Any) -> None:
    """Puts the saved optimizer state into `optimizer`, whose parameters must be those it was saved from.

    Raises:
        DataError: the number of parameters or their groups differ, or the file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file, settings = path / "optimizer.safetensors", load_state(path)["optimizer"]
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} cannot be read ({error}); delete {path} and resume from the one before") from error
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in settings["scalars"].items()}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    groups = [{**group, "betas": tuple(group["betas"])} for group in settings["param_groups"]]
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as error:
        raise DataError(f"{file} belongs to another model or optimizer: {error}") from error


def _save_optimizer(file: Path, optimizer: Any) -> dict[str, Any]:
    """Writes the optimizer's tensors and gives the rest as JSON values."""
    import torch
    from safetensors.torch import save_file

    saved = optimizer.state_dict()
    tensors: dict[str, Any] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in saved["state"].items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{key}"] = value.detach().cpu().contiguous()
            else:
                scalars.setdefault(str(index), {})[key] = value
    save_file(tensors, file)
    return {"param_groups": saved["param_groups"], "scalars": scalars}


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def flush(saved: Path) -> None:
    """Has a file, or all of a folder, reach the disk before the rename does, so that a power cut leaves no named, empty
    checkpoint."""
    for path in [*saved.rglob("*"), saved]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _prune(folder: Path, keep_last: int) -> None:
    for path in [*list_checkpoints(folder)[:-keep_last], *folder.glob(f"{PARTIAL}*")]:
        shutil.rmtree(path)
