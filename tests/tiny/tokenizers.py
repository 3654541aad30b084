"""Tokenizers of the classes that the families' pipelines ask for, over single characters or bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from t2i_track import assets

ASCII = [chr(code) for code in range(33, 127)]
SPACE = "\u2581"
"""What SentencePiece writes for a blank."""
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
CLIP_VOCABULARY, CLIP_START, CLIP_END = 669, 667, 668
VOCABULARY = 300
"""Room for every vocabulary below but CLIP's."""

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS_CHAT = (
    "{% for message in messages %}[{{ message['role'] }}]{% for part in message['content'] %}{{ part['text'] }}"
    "{% endfor %}{% endfor %}"
)


def clip(**changes: Any) -> Any:
    """The embedded model's own, which knows the words of its captions."""
    return t.AutoTokenizer.from_pretrained(assets.shapes_sd() / "tokenizer", **changes)


def t5(max_length: int = 512) -> Any:
    pieces = ["<pad>", "</s>", "<unk>", SPACE, *ASCII]
    scores = [0.0 if piece.startswith("<") and piece.endswith(">") else -2.0 for piece in pieces]
    return t.T5Tokenizer(vocab=list(zip(pieces, scores, strict=True)), extra_ids=0, model_max_length=max_length)


def gemma(max_length: int = 4096) -> Any:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", SPACE, "\n", *ASCII]
    return t.GemmaTokenizer(vocab=_numbered(pieces), merges=[], model_max_length=max_length, padding_side="right")


def add_phrases(tokenizer: Any, phrases: Iterable[str]) -> Any:
    """The tokenizer, to which each phrase is one token: the page that a pipeline writes before every prompt would be
    hundreds, and drown the prompt."""
    tokenizer.add_tokens([t.AddedToken(phrase, normalized=False) for phrase in phrases])
    return tokenizer


def bert(max_length: int = 77) -> Any:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *ASCII, *(f"##{letter}" for letter in ASCII)]
    return t.BertTokenizer(vocab=_numbered(pieces), model_max_length=max_length)


def qwen2(max_length: int = 4096) -> Any:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = t.Qwen2Tokenizer(
        vocab=_numbered([*specials, *BYTES]),
        merges=[],
        model_max_length=max_length,
        additional_special_tokens=specials[1:],
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def llama(max_length: int = 256, side: str = "right") -> Any:
    """Bytes, in the class that a folder without a tokenizer's own class is read with."""
    backend = Tokenizer(models.BPE(vocab=_numbered(["<unk>", "<s>", "</s>", *BYTES]), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return t.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<unk>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side=side,
        model_max_length=max_length,
    )


def pixtral() -> Any:
    """The processor of Flux 2, whose chat template takes lists of parts of a message."""
    from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

    tokenizer = add_phrases(llama(512), [SYSTEM_MESSAGE])
    tokenizer.add_special_tokens({"additional_special_tokens": ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]})
    return t.PixtralProcessor(t.PixtralImageProcessor(), tokenizer, patch_size=8, chat_template=PARTS_CHAT)


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(pieces)}
