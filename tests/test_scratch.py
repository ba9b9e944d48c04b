"""Tokenizers and small models from scratch: nothing is lost in a round trip, names are one token, grafts keep rows."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dreamed_shop import play, shop_env, tasks_of

from dreamgym_env.domains.webshop import WEBSHOP
from dreamgym_env.prompts import experience_messages, user_turn
from dreamgym_env.trainers.names import label_class, name_classes, number_classes
from dreamgym_env.trainers.scratch import (
    END,
    PAD,
    PIECE,
    ROLES,
    SmallConfig,
    Vocabulary,
    build_model,
    build_tokenizer,
    deepened,
    fit_vocabulary,
    graft,
    is_name,
    number_of,
    spaced,
    widened,
)
from dreamgym_env.types import StepContext

SMALL = SmallConfig(hidden_size=64, layers=3, attention=(1,), feed_forward=96, max_positions=256)
ODD = [
    "", " ", "\n", "\n\n  \n", "a", " a", "a ", "  two  blanks  ", "tab\tand\r\nreturn", "[", "]", "[ ",
    "[a]", "[ a ]", "[[x]]",
    "\n [", "\n[", "] [", "][", "\n \n", "word\n word", "line\n   indented: [red] [ blue]", "$24.99 to $30.00",
    "3.5 x 4", "naïve café", "ÄÖÜß", "日本語のテキスト", "☃🙂🧑‍🚀",
    "\u00a0nbsp\u2028sep\u200b", "e\u0301", "\x00\x01\x7f",
    "\ufffd",
    "<state>\n\n</state>\n<outcome>success</outcome>", "</reasoning>\n<state>", "<|end|><|user|>", "<reasoning>a<b>c",
    "don’t o'clock rock'n'roll", "a_b-c/d*e#f&g%h+i", "1,299.50", "....", "B0A1B2C3D4", "x" * 300, "Task: buy",
    "'", " '", "''", " ''", "' '", "(' '", "='a", "=' a", "( 'a' , z='w')", "it ' s 'so' ('x', \"y'\")",
    "['a', ' b']", "dogs' 'tis",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """Conversations of real episodes, and the catalogue's rows."""
    texts = []
    for task in tasks_of("train", 4):
        for policy in ("oracle", "random"):
            episode = play(task, policy, 2)
            steps = tuple(replace(step, prompt=user_turn(step.action, (), ())) for step in episode.transitions)
            last = steps[-1]
            messages = experience_messages(WEBSHOP, StepContext(task, steps, last.next_state, "click[x]"), "?")
            texts.append(END.join(message["content"] for message in messages))
    rows = [f"[{one.asin}] {one.title} | {one.price_tag}" for one in shop_env().shop.products]
    return texts + ["\n".join(rows[start : start + 10]) for start in range(0, len(rows), 10)] * 2


@pytest.fixture(scope="module")
def tokenizer(corpus: list[str]) -> Any:
    return build_tokenizer(fit_vocabulary(corpus))


@pytest.mark.parametrize("text", ODD)
def test_every_text_comes_back(tokenizer: Any, text: str) -> None:
    for whole in (text, f"Task: {text}\n{text}", f"[{text}] {text}"):
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == whole


def test_every_page_comes_back_and_costs_little(tokenizer: Any, corpus: list[str]) -> None:
    for text in corpus:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
    page = next(
        text for text in (step.next_state for step in play(tasks_of("train", 4)[0]).transitions) if "Page 1" in text
    )
    assert len(tokenizer(page)["input_ids"]) < len(page) / 5


def test_names_prices_and_attributes_of_the_catalogue_are_one_token(tokenizer: Any) -> None:
    known = tokenizer.get_vocab()
    for product in shop_env().shop.products:
        assert f" {product.asin}" in known
        assert all(f" {price}" in known for price in product.price_tag.split(" to "))
        shown = [word for word in product.attributes if f", {word}" in product.title]
        assert all(f" {word}" in known for word in shown)
    product = shop_env().shop.products[0]
    row = f"[{product.asin}]"
    assert tokenizer.tokenize(row) == ["[", f" {product.asin}", "]"]


def test_tags_and_roles_are_one_token_and_never_split(tokenizer: Any) -> None:
    for text in (PAD, END, *ROLES, "<state>", "</state>", "</reasoning>\n<state>", "\n</state>\n<outcome>"):
        assert len(tokenizer.tokenize(text)) == 1
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, END)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], tokenize=False
    )
    assert text == "<|user|>a<|end|><|assistant|>b<|end|>"


def test_what_a_vocabulary_holds() -> None:
    text = f"Header line of it\n[Go Back] [Buy it now]\n  indented line, often\nrare{END}second turn line\nword word"
    found = fit_vocabulary([text, text, "word alone"], min_count=3)
    assert set(found.lines) == {"Header line of it", "\n[Go Back] [Buy it now]", "second turn line"}
    pieces = dict(found.pieces)
    assert pieces[" word"] == 4  # "word alone" begins without a blank
    assert " alone" not in pieces


def test_traces_and_numbered_names_are_no_line_tokens() -> None:
    text = "<reasoning>drawer seen before</reasoning>\nYou are at the drawer 2.\nPage 1 (Total results: 50)"
    assert set(fit_vocabulary([text] * 10, line_share=0.2).lines) == {"\nPage 1 (Total results: 50)"}


def test_a_run_of_blanks_is_one_piece() -> None:
    text = "\n  look:             look around"
    assert PIECE.findall(spaced(text)) == ["\n", "  ", " look", ":", "            ", " look", " around"]


@pytest.mark.parametrize("text", ["\n  indented line, often", "\n[ Go Back ] [ Buy it now ]"])
def test_lines_that_decoding_would_change_are_no_tokens(text: str) -> None:
    tokenizer = build_tokenizer(fit_vocabulary([f"first{text}\nlast"] * 5))
    assert tokenizer.decode(tokenizer(f"first{text}\nlast")["input_ids"]) == f"first{text}\nlast"


def test_a_name_is_the_same_in_quotation_marks_and_without() -> None:
    page = "[11] link 'Oak Lamp' value='Oak' options=['Oak', 'Red']\nfill('11', 'Oak Lamp')"
    texts = [f"Order one Oak Lamp\n{page}", f"don't buy\n{page}", page]
    tokenizer = build_tokenizer(fit_vocabulary(texts, line_share=2))  # no whole lines
    pieces = tokenizer.tokenize(f"Order one Oak Lamp\n{page}")
    assert {one for one in pieces if re.search("Oak|Lamp|11|Red", one)} == {" Oak", " Lamp", " 11", " Red"}
    assert [pieces.count(one) for one in (" Oak", " 11")] == [5, 2]


def test_a_name_of_several_words_may_be_one_phrase() -> None:
    texts = [f"Find {name}\n[1] link '{name}'\nheading '{name}'" for name in ("Oak Desk Lamp", "Red Tea Pot") * 30]
    tokenizer = build_tokenizer(fit_vocabulary(texts, line_share=2, phrases=4))
    assert tokenizer.tokenize("Find Oak Desk Lamp")[-1:] == [" Oak Desk Lamp"]
    assert " Red Tea Pot" in tokenizer.tokenize("[1] link 'Red Tea Pot'")
    titles = {(tokenizer.get_vocab()[name],) for name in (" Oak Desk Lamp", " Red Tea Pot")}
    assert any(titles <= set(members) for members in name_classes(tokenizer, frozenset()))


def test_a_capitalised_word_has_its_plain_form_too() -> None:
    text = "set the Phone number of Ada and the Phone number of PDF, then the city, City"
    without, plain = (fit_vocabulary([text] * 3, plain_forms=one) for one in (False, True))
    words = [{word for word, _ in one.pieces} for one in (without, plain)]
    assert words[1] - words[0] == {" phone", " ada"}  # `city` is there, and PDF is no word with one capital
    tokenizer = build_tokenizer(plain)
    tokens = [" Phone", " phone", " City", " city", " Ada", " ada"]
    first, second, third = (tuple(tokenizer.convert_tokens_to_ids(tokens[at : at + 2])) for at in (0, 2, 4))
    assert label_class(tokenizer, frozenset()) == sorted((first, second, third))
    assert label_class(tokenizer, frozenset({" ada", " City"})) == [first]


def test_numbers_are_of_three_kinds() -> None:
    tokenizer = build_tokenizer(fit_vocabulary(["345 or 4 of 12 cost $3.50 and 2.5 stars, or $7"] * 3))
    assert "345" in tokenizer.get_vocab()  # without a blank, as nothing stands before it
    kinds = [tokenizer.convert_ids_to_tokens([one for (one,) in members]) for members in number_classes(tokenizer)]
    assert [sorted(kind) for kind in kinds] == [[" $7", " 12", " 4"], [" $3.50", " 2.5"], list("0123456789")]


def test_a_small_vocabulary_spells() -> None:
    tokenizer = build_tokenizer(Vocabulary((), ((" red", 9), (" rug", 5))))
    assert tokenizer.tokenize("a red rug")[-2:] == [" red", " rug"]
    assert tokenizer.decode(tokenizer(" redder")["input_ids"]) == " redder"
    assert len(tokenizer.tokenize(" redder")) > 1


def test_pieces() -> None:
    assert spaced("a\n[b") == "a\n [ b"
    assert all(is_name(one) for one in (" Alpha", " hands-free", " B0A1B2C3D4"))
    assert not any(is_name(one) for one in (" 24.99", " 24", " $24.99", "Alpha", " ["))
    assert [number_of(one) for one in (" $24.99", " 40", "7", " x7", " 1.2.3")] == [24.99, 40.0, 7.0, None, None]


def test_a_model_is_loaded_by_transformers_alone(tokenizer: Any, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model: Any = build_model(SMALL, tokenizer).eval()  # type: ignore[no-untyped-call]
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=True).eval()  # type: ignore[no-untyped-call]
    same = AutoTokenizer.from_pretrained(tmp_path)
    text = "[Back to Search] [Next >] naïve"
    assert same(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert same.chat_template == tokenizer.chat_template
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids).logits)
    assert again.config.layer_types == ["conv", "full_attention", "conv"]


def test_a_graft_keeps_shared_rows_and_maps_numbers_and_names() -> None:
    import torch

    old_words = [" $10.00", " $20.00", " 11", " 300", " Zaro", " Miku", " tala", " shared", " Page"]
    new_words = [" $19.00", " $250.00", " 12", " 290", " Norvale", " B0A1B2C3D4", " shared", " Page", " ©"]
    old, new = (build_tokenizer(Vocabulary((), tuple((word, 5) for word in words))) for words in (old_words, new_words))
    torch.manual_seed(0)
    model = build_model(SMALL, old)
    before, source, target = model.get_input_embeddings().weight.data.clone(), old.get_vocab(), new.get_vocab()
    ways = graft(model, old, new, seed=3)
    after = model.get_input_embeddings().weight.data
    assert after.shape == (len(new), 64)
    assert model.get_output_embeddings().weight.data_ptr() == after.data_ptr()
    for word in (" shared", " Page", "<state>", END, "a"):
        assert torch.equal(after[target[word]], before[source[word]])
    candidates = torch.stack([before[source[word]] for word in old_words])
    for word, nearest in {" $19.00": " $20.00", " $250.00": " $20.00", " 12": " 11", " 290": " 300"}.items():
        distances = (candidates - after[target[word]]).norm(dim=1)
        assert old_words[int(distances.argmin())] == nearest
        assert 0 < distances.min() < 0.5 * distances.median()
    names = [before[source[word]] for word in (" Zaro", " Miku", " tala")]
    for word in (" Norvale", " B0A1B2C3D4"):
        assert any(torch.equal(after[target[word]], row) for row in names)
    assert ways == {"kept": len(new) - 7, "number": 4, "name": 2, "new": 1}
    assert model.config.vocab_size == len(new)
    assert (model.config.pad_token_id, model.config.eos_token_id) == (new.pad_token_id, new.eos_token_id)


def test_a_wider_convolution_begins_as_the_same_function() -> None:
    import torch

    tokenizer = build_tokenizer(Vocabulary((), ((" one", 5), (" two", 5))))
    model = build_model(SMALL, tokenizer)
    ids = torch.randint(0, len(tokenizer), (2, 20))
    before = model.eval()(ids).logits
    wide = widened(model, 6).eval()
    assert wide.model.layers[0].conv.conv.weight.shape == (64, 1, 6)
    assert torch.allclose(wide(ids).logits, before, atol=1e-6)
    assert wide(input_ids=ids, use_cache=True).logits.shape == before.shape
    with pytest.raises(ValueError, match="convolution over 6 tokens, got 3"):
        widened(wide, 3)


def test_a_deeper_model_begins_as_the_same_function_and_learns_in_every_block() -> None:
    import torch

    tokenizer = build_tokenizer(Vocabulary((), ((" one", 5), (" two", 5))))
    model = build_model(SMALL, tokenizer).eval()
    ids = torch.randint(0, len(tokenizer), (2, 20))
    before = model(ids).logits
    deep = deepened(model, 2).eval()
    assert len(deep.model.layers) == 2 * len(model.model.layers)
    assert torch.allclose(deep(ids).logits, before, atol=1e-6)
    assert torch.allclose(deep(input_ids=ids, use_cache=True).logits, before, atol=1e-6)
    deep(input_ids=ids, labels=ids).loss.backward()
    for name, weight in deep.named_parameters():
        if name.endswith(("out_proj.weight", "w2.weight")):
            assert weight.grad.abs().max() > 0, name
    with pytest.raises(ValueError, match=r"`deepen` must be >= 2 for an LFM2 base, got 1"):
        deepened(model, 1)


def test_a_graft_is_seeded() -> None:
    import torch

    old = build_tokenizer(Vocabulary((), ((" Zaro", 5), (" Miku", 5), (" $3.00", 5))))
    new = build_tokenizer(Vocabulary((), ((" Norvale", 5), (" $4.00", 5))))
    rows = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = build_model(SMALL, old)
        graft(model, old, new, seed)
        rows.append(model.get_input_embeddings().weight.data.clone())
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_names_are_classed(tokenizer: Any) -> None:
    classes = name_classes(tokenizer, frozenset({" Page"}))
    tokens = [[str(tokenizer.convert_ids_to_tokens(ids[0])) for ids in members] for members in classes]
    sizes = Counter(token for group in tokens for token in group)
    assert max(sizes.values()) == 1
    assert " Page" not in sizes
    ids, capital, plain, letters = tokens
    assert len(letters) > 30
    assert all(len(token) == 1 and f" {token}" not in tokenizer.get_vocab() for token in letters)
    assert all(token.strip().isupper() for token in ids)
    assert f" {shop_env().shop.products[0].asin}" in ids
    assert all(token[1].isupper() for token in capital)
    assert all(token[1].islower() for token in plain)
    assert not any("<" in token for token in sizes)  # the format's tags are in no class


def test_a_letter_that_may_begin_a_word_has_two_ids() -> None:
    fitted = build_tokenizer(fit_vocabulary(["x y and x or y", "x y and x or y", "z"]))
    vocabulary = fitted.get_vocab()
    pair = [(vocabulary["x"], vocabulary[" x"]), (vocabulary["y"], vocabulary[" y"])]
    assert sorted(pair) in name_classes(fitted, frozenset({" and", " or"}))
    letters = {ids for members in name_classes(fitted, frozenset({" x"})) for ids in members}
    assert not letters & {pair[0], (vocabulary["x"],), (vocabulary[" x"],)}
