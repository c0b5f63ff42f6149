"""Opens a causal language model of `transformers` from a local folder, or builds it from its settings.

    config.json ─► read here, checked ─► settings ─┐
    model.safetensors ─────────────────────────────┴─► the model, in float32

Nothing is downloaded and no code that lies in a folder is run: only architectures that transformers itself has. Its
attention is torch's own, whatever the settings say, for they may name a kernel that is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fashionkit.models.model_folder import CONFIG, WEIGHTS, read_json
from fashionkit.tables import InputError
from fashionkit.vision.region_base import needed, said_by
from fashionkit.vision.segment import _quiet

EXTRA: Final = "segment"  # which has transformers
SUPPORTED: Final = 'pip install -U "transformers>=4.56"'  # kept keys and values have layers since then
FOREIGN: Final = ("auto_map", "quantization_config")  # code of the folder's own, weights of another kind
ADAPTER: Final = "adapter_config.json"  # it may name another model to load
IMPLEMENTATIONS: Final = ("sdpa", "eager")  # not every model has the first


def read_tower(folder: Path) -> Any:
    """The model of a folder, with its weights, in evaluation mode.

    Raises:
        InputError: transformers is not installed or too old; the folder lacks files, or they are damaged, do not fit
            each other, or are of a model that is not supported.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            hint = f"a language tower is a folder with {CONFIG}, {WEIGHTS} and tokenizer.json; pickles are not read"
            raise InputError(f"the folder of a language tower lacks {name}", file=folder, hint=hint)
    if (folder / ADAPTER).exists():
        hint = "merge the adapter into the model, and save that"
        raise InputError("this folder holds an adapter of another model", file=folder / ADAPTER, hint=hint)
    values = read_json(folder / CONFIG)
    try:
        return _opened(folder, values)
    except InputError as error:
        if error.file is None:
            error.add_note(f"  in {folder}")
        raise


def new_tower(values: Mapping[str, Any]) -> Any:
    """The model of some settings, as its config.json has them, with random weights, in evaluation mode.

    Raises:
        InputError: transformers is not installed or too old, or the settings are damaged or not supported.
    """
    library, config = _library(), _config(values)
    auto = library.AutoModelForCausalLM
    return _first(lambda how: auto.from_config(config, trust_remote_code=False, attn_implementation=how), library)


def layers_of(values: object) -> int:
    """How many layers a model of some settings has; 0 where they are none that tell.

    Raises:
        InputError: They are damaged or not supported.
    """
    if not isinstance(values, Mapping):
        return 0
    found = getattr(_config(values).get_text_config(), "num_hidden_layers", 0)
    return found if isinstance(found, int) else 0


def _opened(folder: Path, values: Mapping[str, Any]) -> Any:
    library, config = _library(), _config(values)

    def opened(how: str) -> Any:
        return library.AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation=how,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report
        )

    model, report = _first(opened, library)
    # transformers fills what it does not find with random numbers and goes on.
    lacking = [*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])]
    if lacking:
        raise InputError("weights are missing or do not fit", file=folder / WEIGHTS, found=sorted(lacking)[:4])
    if not all(bool(value.isfinite().all()) for value in model.parameters()):
        raise InputError("there are numbers in it that are not finite", file=folder / WEIGHTS)
    return model


def _library() -> Any:
    library = needed("transformers", EXTRA)
    if not hasattr(library.DynamicCache(), "layers"):
        raise InputError("transformers is too old for this", found=library.__version__, hint=SUPPORTED)
    return library


def _config(values: Mapping[str, Any]) -> Any:
    """Settings as transformers has them."""
    library = _library()
    for key in FOREIGN:
        if values.get(key) is not None:
            problem = "a language tower is of an architecture of transformers, with plain weights"
            raise InputError(problem, column=key, found=values[key])
    kind = values.get("model_type")
    known = library.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not isinstance(kind, str) or kind not in known:
        raise InputError("no causal language model that transformers knows", column="model_type", found=kind)
    try:
        with _quiet(library):
            return library.CONFIG_MAPPING[kind].from_dict(dict(values))
    except Exception as error:  # whatever a class of transformers raises of settings that it cannot take
        raise InputError("the settings of the language tower are damaged", found=said_by(error)) from error


def _first(build: Callable[[str], Any], library: Any) -> Any:
    """What can be built with the first kind of attention that the model has: (the model, or it and a report)."""
    for how in IMPLEMENTATIONS:
        try:
            with _quiet(library):
                found = build(how)
        except Exception as error:  # damaged files raise errors of safetensors, torch and transformers alike
            if how != IMPLEMENTATIONS[-1] and "attn_implementation" in str(error):
                continue
            raise InputError("the language tower cannot be read", found=said_by(error)) from error
        (found[0] if isinstance(found, tuple) else found).float().eval()
        return found
    raise AssertionError("the last kind either works or raises")
