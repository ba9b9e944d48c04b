"""Small models from scratch: a tokenizer fitted to a corpus, an LFM2 of a few million parameters, vocabulary grafts.

Words, not sub-words: a name that is one token can be looked up and copied in one step, which is what small experience
models fail at (`docs/experience-model.md`). Frequent lines become single tokens too, so that a templated page costs
little. What was never seen falls back to characters and bytes, so every text can be encoded and decoded back.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from .phrases import find_phrases, phrase_pattern

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
TAGS = tuple(
    f"<{slash}{name}>" for name in ("reasoning", "state", "outcome", "think", "action", "task") for slash in ("", "/")
)
JOINTS = ("</reasoning>\n<state>", "\n</state>\n<outcome>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# The first word of a line, of a bracket and of a quotation gets a blank, so that a name has one spelling everywhere:
# what an agent types is copied from a task that quotes nothing.
_BLANKS = (("\n", "\n "), ("[", "[ "), (" '", " ' "), ("('", "(' "), ("='", "=' "))
_WORD = r" ?[\w$&%+*/#’-]+(?:['.]\w+)*"
PIECE = re.compile(rf"\n \[|\n|\] \[| ?\[| +(?= \S)|{_WORD}| ?[^\w\s]|\s")
_NUMBERED = re.compile(r"\b[a-z]+ \d+\b")
_RARE = -30.0


def spaced(text: str) -> str:
    """The text as the tokenizer sees it: a blank after each new line, opening bracket and opening quotation mark."""
    for mark, wider in _BLANKS:
        text = text.replace(mark, wider)
    return text


def pieces_of(text: str) -> list[str]:
    """The words, punctuation and blanks of a text, as a vocabulary without phrases splits it."""
    return PIECE.findall(spaced(text))


def _splitter(tokens: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, tokens)))


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer is made of, most frequent first: `pieces` (words, punctuation) with counts, and whole `lines`,
    with the new line in front of those that do not begin a turn. `phrases` are pieces of several words, longest
    first."""

    lines: tuple[str, ...]
    pieces: tuple[tuple[str, int], ...]
    phrases: tuple[str, ...] = ()

    @property
    def pattern(self) -> str:
        """The regular expression of a piece."""
        return phrase_pattern(self.phrases) + PIECE.pattern


def fit_vocabulary(
    texts: Iterable[str],
    max_size: int = 8000,
    min_count: int = 2,
    line_share: float = 0.2,
    phrases: int = 0,
    plain_forms: bool = False,
    names: frozenset[str] = frozenset(),
) -> Vocabulary:
    """Counts lines and words of a corpus.

    Args:
        max_size: most words kept.
        min_count: a word seen less often is spelled in characters.
        line_share: a line of at least two words becomes one token if it stands in this share of the texts.
        phrases: most joins of neighbouring words (`find_phrases`); for worlds whose texts are templates.
        plain_forms: a word kept with a capital (`Comment`) is kept without one as well, though no text has it.
        names: words, with the blank before them, that are no part of a longer piece or of a line that is one token.
    """
    texts = list(texts)
    lines = tuple(line for line in _whole_lines(texts, line_share) if names.isdisjoint(pieces_of(line)))
    turns, tags, whole = (_splitter(some) for some in ((*ROLES, END), (*JOINTS, *TAGS), lines or (END,)))
    parts = [[part for turn in turns.split(text) for part in tags.split(turn)] for text in texts]
    found: tuple[str, ...] = ()
    if phrases:
        loose = [pieces_of("\0".join(part for one in text for part in whole.split(one))) for text in parts]
        found = find_phrases(loose, phrases, names=names)
    piece = re.compile(phrase_pattern(found) + PIECE.pattern)
    words = Counter(word for text in parts for part in text for word in piece.findall(spaced(part)))
    kept = [(word, count) for word, count in words.most_common(max_size) if count >= min_count]
    if plain_forms:
        known = {word for word, _ in kept}
        plain = dict.fromkeys(word.lower() for word, _ in kept if is_name(word) and word[1:].istitle())
        kept += [(word, 1) for word in plain if word not in known]
    return Vocabulary(lines, tuple(kept), found)


def _whole_lines(texts: Sequence[str], share: float) -> tuple[str, ...]:
    """The lines that become one token each."""
    turns = _splitter((*ROLES, END))
    lines: Counter[str] = Counter()
    for text in texts:
        found = (line for turn in turns.split(text) for line in (turn.split("\n")[0], *re.findall("\n[^\n]*", turn)))
        lines.update([*dict.fromkeys(filter(_may_be_a_token, found))])  # a set has another order in each process
    return tuple(line for line, count in lines.most_common(200) if count >= max(share * len(texts), 2))


def _may_be_a_token(line: str) -> bool:
    """Long enough to pay, without the blanks that decoding takes out, and no trace or line with a numbered name
    (`drawer 2`): what is to be looked up is read word by word."""
    blanks = any(wider in line for _, wider in _BLANKS)
    spelled_out = blanks or line.startswith("<reasoning>") or _NUMBERED.search(line)
    return " " in line and len(line) > 12 and not spelled_out


def build_tokenizer(vocabulary: Vocabulary) -> Any:
    """A fast tokenizer over the vocabulary; encoding then decoding gives every text back."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    scores = _piece_scores(vocabulary)
    core = Tokenizer(models.Unigram(list(scores.items()), unk_id=0, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Replace(mark, wider) for mark, wider in _BLANKS])
    core.pre_tokenizer = pre_tokenizers.Split(Regex(vocabulary.pattern), "isolated")
    narrowed = [decoders.Replace(wider, mark) for mark, wider in reversed(_BLANKS)]
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), *narrowed])
    core.add_special_tokens([AddedToken(text, special=True) for text in (PAD, END, *ROLES)])
    core.add_tokens([AddedToken(tag, normalized=False) for tag in (*JOINTS, *TAGS)])
    core.add_tokens([AddedToken(line, normalized=False) for line in vocabulary.lines])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _piece_scores(vocabulary: Vocabulary) -> dict[str, float]:
    """Every piece with its log-probability; bytes and printable characters last, so that a whole word always wins."""
    total = sum(count for _, count in vocabulary.pieces) or 1
    scores = {"<unk>": _RARE * 2}
    scores.update({f"<0x{code:02X}>": _RARE for code in range(256)})
    scores.update({chr(code): _RARE for code in (10, *range(32, 127))})
    scores.update({piece: math.log(count / total) for piece, count in vocabulary.pieces})
    return scores


@dataclass(frozen=True)
class SmallConfig:
    """Sizes of a from-scratch LFM2 (short convolutions and attention)."""

    hidden_size: int = 192
    """Width, a multiple of `heads`."""
    heads: int = 4
    """Attention heads, even; two share one key and value."""
    layers: int = 6
    """Blocks, >= 3."""
    attention: tuple[int, ...] = (2, 4, 5)
    """Indices of the blocks that attend; the others convolve."""
    convolution: int = 3
    """Tokens that a convolution sees, itself included, >= 2."""
    feed_forward: int = 512
    """Inner width of the gated feed-forward."""
    max_positions: int = 4096
    """Longest sequence, in tokens."""


def build_model(config: SmallConfig, tokenizer: Any) -> Any:
    """A randomly initialised causal LM that `transformers` loads without custom code."""
    from transformers import Lfm2Config, Lfm2ForCausalLM

    layer_types = ["full_attention" if i in config.attention else "conv" for i in range(config.layers)]
    model = Lfm2ForCausalLM(
        Lfm2Config(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads // 2,
            max_position_embeddings=config.max_positions,
            layer_types=layer_types,
            conv_L_cache=config.convolution,
            block_auto_adjust_ff_dim=False,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
        )
    )
    _look_up_from_the_start(model)
    return model


def widened(model: Any, convolution: int) -> Any:
    """The same function in an LFM2 whose convolutions see so many tokens: the new taps begin at zero.

    Raises:
        ValueError: the model has no such convolutions, or they see more already.
    """
    import torch
    from transformers import Lfm2ForCausalLM

    taps = getattr(model.config, "conv_L_cache", None)
    if taps is None or taps > convolution:
        raise ValueError(f"`widen` must be at least the base's convolution over {taps} tokens, got {convolution}")
    model.config.conv_L_cache = convolution
    wide = Lfm2ForCausalLM(model.config)
    weights = model.state_dict()
    for name, weight in weights.items():
        if name.endswith("conv.conv.weight"):
            weights[name] = torch.nn.functional.pad(weight, (convolution - taps, 0))
    wide.load_state_dict(weights)
    return wide


def deepened(model: Any, times: int) -> Any:
    """The same function in an LFM2 of so many times the blocks: behind each stand copies that begin without effect.

    A copy's output projections are zero, all else is its original's; net2net's growth in depth (arXiv:1511.05641) for
    residual blocks.

    Raises:
        ValueError: the model is no LFM2, or `times` < 2.
    """
    import torch
    from transformers import Lfm2ForCausalLM

    if not isinstance(model, Lfm2ForCausalLM) or times < 2:
        raise ValueError(f"`deepen` must be >= 2 for an LFM2 base, got {times} for a {type(model).__name__}")
    config = deepcopy(model.config)
    config.layer_types = [kind for kind in model.config.layer_types or () for _ in range(times)]
    config.num_hidden_layers *= times
    weights = {}
    for name, weight in model.state_dict().items():
        if not (found := re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name)):
            weights[name] = weight
            continue
        first, ends = int(found[1]) * times, found[2].endswith(("out_proj.weight", "w2.weight"))
        for number in range(first, first + times):
            silent = ends and number > first
            weights[f"model.layers.{number}.{found[2]}"] = torch.zeros_like(weight) if silent else weight
    deep = Lfm2ForCausalLM(config)
    deep.load_state_dict(weights)
    return deep


def _look_up_from_the_start(model: Any, copy: float = 0.3, embedding_std: float = 0.1) -> None:
    """Sets attention to begin as a lookup: a query is like the key of the same word, and what is found is copied.

    After "Mimetic Initialization of Self-Attention Layers" (arXiv:2305.09828), with the sign of a copy. Lists repeated
    in context were copied after 0.2M tokens instead of not at all after 0.3M (`docs/experience-model.md`).
    """
    import torch

    width, heads = model.config.hidden_size, model.config.num_attention_heads
    groups = heads // 2
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(std=embedding_std)
        for layer in model.model.layers:
            if not hasattr(layer, "self_attn"):
                continue
            attention, rows = layer.self_attn, width // heads
            keys, values = (torch.linalg.qr(torch.randn(width, width))[0][: groups * rows] for _ in range(2))
            shared = [slice(group * rows, (group + 1) * rows) for group in range(groups) for _ in range(2)]
            noise = 0.1 / math.sqrt(width) * torch.randn(width, width)
            attention.k_proj.weight.copy_(keys)
            attention.q_proj.weight.copy_(torch.cat([keys[part] for part in shared]) + noise)
            attention.v_proj.weight.copy_(values)
            attention.out_proj.weight.copy_(copy * torch.cat([values[part].T for part in shared], 1))


def is_name(token: str) -> bool:
    """Whether a piece is a word that may stand for anything: letters, or letters and digits without a decimal point."""
    return re.fullmatch(r" [A-Za-z][\w-]*|[ ](?=\d*[A-Z])[A-Z0-9]{4,}", token) is not None


def number_of(token: str) -> float | None:
    """The value of a piece such as ` $24.99` or ` 40`, else None."""
    match = re.fullmatch(r" ?\$?(\d+(?:\.\d+)?)", token)
    return float(match[1]) if match else None


def graft(model: Any, old: Any, new: Any, seed: int = 0) -> dict[str, int]:
    """Gives a trained small model another tokenizer, in place.

    A piece that both know keeps its embedding; a number takes that of the nearest number the model knows; any other
    name takes that of a random name, since the base has learned to treat names as interchangeable. Returns how many
    pieces went each way.
    """
    import torch

    weights = model.get_input_embeddings().weight.data
    source, target = (dict(sorted(one.get_vocab().items())) for one in (old, new))  # theirs has no fixed order
    generator = torch.Generator().manual_seed(seed)
    names = [index for token, index in source.items() if is_name(token) and token not in target]
    numbers = {sign: _numbers(source, sign) for sign in (" $", " ")}
    order = [names[i] for i in torch.randperm(len(names), generator=generator).tolist()] or list(source.values())
    fresh = torch.randn(len(new), weights.shape[1], generator=generator) * weights.std()
    ways: Counter[str] = Counter()
    for position, (token, index) in enumerate(sorted(target.items(), key=lambda item: item[1])):
        value = number_of(token)
        if token in source:
            fresh[index], way = weights[source[token]], "kept"
        elif value is not None and (known := numbers[" $" if "$" in token else " "]):
            nearest = min(known, key=lambda pair: abs(pair[0] - value))[1]
            noise = torch.randn(weights.shape[1], generator=generator)  # else two prices would be one
            fresh[index], way = weights[nearest] + 0.3 * weights.std() * noise, "number"
        elif is_name(token):
            fresh[index], way = weights[order[position % len(order)]], "name"
        else:
            way = "new"
        ways[way] += 1
    model.resize_token_embeddings(len(new), mean_resizing=False)
    model.get_input_embeddings().weight.data.copy_(fresh)
    model.config.pad_token_id, model.config.eos_token_id = new.pad_token_id, new.eos_token_id
    return dict(ways)


def _numbers(vocabulary: Mapping[str, int], sign: str) -> list[tuple[float, int]]:
    """Value and id of every number that begins with this sign: prices and bare numbers are told apart."""
    alike = [token for token in vocabulary if token.startswith(sign) and token.count("$") == sign.count("$")]
    pairs = ((number_of(token), vocabulary[token]) for token in alike)
    return [(value, index) for value, index in pairs if value is not None]
