"""A CLIP tokenizer for the grammar: its words are whole tokens, any other text falls apart into bytes."""

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from t2i_track.shapes.captions import words

LENGTH = 77
END = "</w>"


def merges() -> list[tuple[str, str]]:
    """Byte-pair merges that leave every word of the grammar whole.

    A word's new merges rank below all earlier ones, so a word that was whole stays whole.
    """
    ranked: list[tuple[str, str]] = []
    for word in words():
        pieces = [*word[:-1], word[-1] + END]
        for pair in ranked:
            pieces = _merge(pieces, pair)
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            ranked.append(pair)
            pieces = _merge(pieces, pair)
    return ranked


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged, i = [], 0
    while i < len(pieces):
        if tuple(pieces[i : i + 2]) == pair:
            merged.append("".join(pair))
            i += 2
        else:
            merged.append(pieces[i])
            i += 1
    return merged


def build() -> CLIPTokenizer:
    alphabet = list(bytes_to_unicode().values())
    ranked = merges()
    tokens = [*alphabet, *(c + END for c in alphabet), *dict.fromkeys(a + b for a, b in ranked)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocabulary, ranked, model_max_length=LENGTH)
